//! TLS: the server's certificate is verified, or there is no connection.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

use p2p_guard_postgres::{Error, GuardConfig, PostgresGuard};
use p2p_types::SigningGuard as _;

use crate::server::{CHAIN, DOMAIN, Guarded as _, Server, promise};

/// Two authorities, and a certificate for `localhost` of the first.
fn certificates(folder: &Path) {
    fs::write(folder.join("names"), "subjectAltName=DNS:localhost").unwrap();
    let script = "
        authority() {
            openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=$1 -keyout $1.key -out $1.pem
        }
        authority ours && authority other &&
        openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=localhost -keyout server.key -out server.req &&
        openssl x509 -req -in server.req -CA ours.pem -CAkey ours.key -CAcreateserial -days 2 -extfile names -out server.pem &&
        chmod 600 server.key";
    let mut command = Command::new("sh");
    command.args(["-c", script]).current_dir(folder).stdout(Stdio::null()).stderr(Stdio::null());
    assert!(command.status().unwrap().success());
}

/// Opens a guard of this host, with the certificates of this file.
async fn open(server: &Server, host: &str, ca: Option<&str>) -> Result<PostgresGuard, Error> {
    let port = server.port();
    let url =
        format!("host={host} hostaddr=127.0.0.1 port={port} user=guard dbname=postgres sslmode=require");
    let mut config = GuardConfig::new(&url, CHAIN, DOMAIN).unwrap();
    config.ca = ca.map(|name| server.folder().join(name));
    PostgresGuard::open(config).await
}

#[tokio::test]
async fn a_server_shows_a_certificate_for_its_name_by_a_trusted_authority() {
    if Command::new("openssl").arg("version").output().is_err() {
        eprintln!("skipped: no openssl, which makes the certificates");
        return;
    }
    let settings =
        ["listen_addresses=127.0.0.1", "ssl=on", "ssl_cert_file=../server.pem", "ssl_key_file=../server.key"];
    let Some(server) = Server::with(&settings, certificates) else { return };
    let guard = open(&server, "localhost", Some("ours.pem")).await.unwrap();
    assert_eq!(guard.permit(promise(1, 100, 1, 1)).await, Ok(()));
    let query = "SELECT bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) \
        WHERE application_name = 'p2p-guard-postgres'";
    assert!(server.client().await.query_one(query, &[]).await.unwrap().get::<_, bool>(0));

    for (host, ca, problem) in [
        ("localhost", Some("other.pem"), "certificate"),
        // Nobody on this host has signed it.
        ("localhost", None, "certificate"),
        ("db.example.org", Some("ours.pem"), "certificate"),
    ] {
        let error = open(&server, host, ca).await.unwrap_err();
        assert!(matches!(&error, Error::Database(text) if text.contains(problem)), "{host} {ca:?}: {error}");
    }
    for (file, problem) in [("server.key", "it has none"), ("missing.pem", "No such file")] {
        let error = open(&server, "localhost", Some(file)).await.unwrap_err();
        assert!(
            matches!(error, Error::Certificates { .. }) && error.to_string().contains(problem),
            "{error}"
        );
    }
}

#[tokio::test]
async fn a_server_without_tls_is_refused_where_it_is_required() {
    let Some(server) = Server::with(&["listen_addresses=127.0.0.1"], |_| ()) else { return };
    let error = open(&server, "localhost", None).await.unwrap_err();
    assert!(matches!(&error, Error::Database(text) if text.contains("TLS")), "{error}");
}
