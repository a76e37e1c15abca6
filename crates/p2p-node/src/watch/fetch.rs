//! Asks a node for its status, once a second. An answer is read as far as a status can be long, and no longer than two seconds.

use std::{convert::Infallible, fmt, str::FromStr, time::Duration};

use reqwest::{Client, StatusCode, redirect};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use url::Url;

use super::{
    error::{AskError, SourceError, WatchError},
    status::{Readiness, Status},
};

/// Between two questions.
const PERIOD: Duration = Duration::from_secs(1);

/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Most bytes of an answer: of 192 peers with 64 protocols each it has half.
const LIMIT: usize = 4 << 20;

/// Where a node's status is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Source(Url);

impl FromStr for Source {
    type Err = SourceError;

    /// `host:port`, or a URL with or without the path `status`.
    fn from_str(text: &str) -> Result<Self, SourceError> {
        let given = || text.to_owned();
        let full = if text.contains("://") { given() } else { format!("http://{text}") };
        let mut url = Url::parse(&full).map_err(|source| SourceError::Url { given: given(), source })?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(SourceError::Scheme { given: given() });
        }
        let path = url.path().trim_end_matches('/');
        let path = if path.ends_with("/status") { path.to_owned() } else { format!("{path}/status") };
        url.set_path(&path);
        url.set_fragment(None);
        Ok(Self(url))
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = self.0.clone();
        // Neither is possible for http.
        shown.set_password(None).ok();
        shown.set_username("").ok();
        shown.fmt(f)
    }
}

/// What a node answers.
#[derive(Debug)]
pub(super) enum Answer {
    Status(Box<Status>),
    /// It does not run yet.
    Starting(Readiness),
}

/// A node that can be asked.
pub(super) struct Endpoint {
    client: Client,
    url: Url,
}

impl Endpoint {
    pub(super) fn new(source: &Source) -> Result<Self, WatchError> {
        // A node is asked directly, wherever this host's web browsers go.
        let client = Client::builder()
            .redirect(redirect::Policy::none())
            .no_proxy()
            .build()
            .map_err(WatchError::Client)?;
        Ok(Self { client, url: source.0.clone() })
    }

    async fn ask(&self) -> Result<Answer, AskError> {
        let mut response = self.client.get(self.url.clone()).send().await.map_err(AskError::Http)?;
        let code = response.status();
        if !matches!(code, StatusCode::OK | StatusCode::SERVICE_UNAVAILABLE) {
            return Err(AskError::Code(code.as_u16()));
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(AskError::Http)? {
            if body.len() + chunk.len() > LIMIT {
                return Err(AskError::TooLong(LIMIT));
            }
            body.extend_from_slice(&chunk);
        }
        match code {
            StatusCode::OK => serde_json::from_slice(&body).map(Answer::Status),
            _ => serde_json::from_slice(&body).map(Answer::Starting),
        }
        .map_err(AskError::Json)
    }
}

/// Asks indefinitely, and tells each answer and when it came.
pub(super) async fn ask_on(
    endpoint: &Endpoint,
    mut tell: impl FnMut(Result<Answer, AskError>, std::time::Instant),
) -> Infallible {
    let mut period = interval(PERIOD);
    period.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        period.tick().await;
        let answer = timeout(TIMEOUT, endpoint.ask()).await.unwrap_or(Err(AskError::Late));
        tell(answer, Instant::now().into_std());
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
    };

    use super::*;

    #[test]
    fn a_source_is_a_host_or_a_url_with_or_without_the_path() {
        let read = |text: &str| text.parse::<Source>().map(|source| source.to_string());
        for (given, url) in [
            ("127.0.0.1:8080", "http://127.0.0.1:8080/status"),
            ("http://node.example/", "http://node.example/status"),
            ("https://node.example/a/", "https://node.example/a/status"),
            ("https://node.example/a/status", "https://node.example/a/status"),
            ("https://me:secret@node.example", "https://node.example/status"),
        ] {
            assert_eq!(read(given).unwrap(), url);
        }
        assert!(matches!(read("ftp://node.example"), Err(SourceError::Scheme { .. })));
        assert!(matches!(read(""), Err(SourceError::Url { .. })));
    }

    /// Answers each question with this.
    async fn server(answer: Vec<u8>) -> Endpoint {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let source: Source = listener.local_addr().unwrap().to_string().parse().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = [0; 1024];
                assert!(stream.read(&mut request).await.unwrap() > 0);
                stream.write_all(&answer).await.ok();
            }
        });
        Endpoint::new(&source).unwrap()
    }

    fn answer(code: u16, body: &[u8]) -> Vec<u8> {
        let head = format!("HTTP/1.1 {code} -\r\nConnection: close\r\n\r\n");
        [head.as_bytes(), body].concat()
    }

    #[tokio::test]
    async fn what_is_no_status_is_an_error_with_its_reason() {
        let asked = async |answer| server(answer).await.ask().await;
        assert!(matches!(asked(answer(404, b"")).await, Err(AskError::Code(404))));
        assert!(matches!(asked(answer(200, b"<html>")).await, Err(AskError::Json(_))));
        assert!(matches!(asked(answer(200, &vec![b' '; LIMIT + 1])).await, Err(AskError::TooLong(LIMIT))));
        assert!(matches!(asked(b"nonsense".to_vec()).await, Err(AskError::Http(_))));
        let starting = answer(503, br#"{"ready": false, "reasons": [{"reason": "starting"}]}"#);
        assert!(matches!(asked(starting).await, Ok(Answer::Starting(_))));
    }

    #[tokio::test]
    async fn a_node_that_is_not_there_is_named_as_such() {
        let closed = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let source: Source = closed.local_addr().unwrap().to_string().parse().unwrap();
        drop(closed);
        let error = Endpoint::new(&source).unwrap().ask().await.unwrap_err();
        assert!(error.to_string().contains("refused"), "{error}");
    }
}
