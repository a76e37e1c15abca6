//! Who may call: by the request's headers, before anything else is read.

use std::net::IpAddr;

use hyper::{
    HeaderMap, Request, StatusCode,
    header::{AUTHORIZATION, HOST, ORIGIN},
    http::uri::Authority,
};

use crate::jwt::{JwtSecret, TokenError};

/// What a request has to have.
#[derive(Debug)]
pub(crate) struct Access {
    hosts: Vec<String>,
    secret: Option<JwtSecret>,
}

/// Why a request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("the Host of the request is neither an IP address nor localhost nor one that is configured")]
    Host,
    #[error("requests of web pages are not answered")]
    Origin,
    #[error(transparent)]
    Token(TokenError),
}

impl Refusal {
    pub(crate) const fn status(self) -> StatusCode {
        match self {
            Self::Host | Self::Origin => StatusCode::FORBIDDEN,
            Self::Token(_) => StatusCode::UNAUTHORIZED,
        }
    }

    /// A short label for metrics.
    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Origin => "origin",
            Self::Token(_) => "token",
        }
    }
}

impl Access {
    pub(crate) const fn new(hosts: Vec<String>, secret: Option<JwtSecret>) -> Self {
        Self { hosts, secret }
    }

    /// Whether a request is answered; `now` in unix seconds.
    pub(crate) fn check<B>(&self, request: &Request<B>, now: u64) -> Result<(), Refusal> {
        let headers = request.headers();
        let named = headers.get(HOST).and_then(|host| host.to_str().ok()?.parse::<Authority>().ok());
        let named = named.ok_or(Refusal::Host)?;
        // A request for an absolute URI names a host twice.
        for authority in request.uri().authority().into_iter().chain([&named]) {
            if !self.is_ours(authority.host()) {
                return Err(Refusal::Host);
            }
        }
        if headers.contains_key(ORIGIN) {
            return Err(Refusal::Origin);
        }
        match &self.secret {
            None => Ok(()),
            Some(secret) => {
                let token = bearer(headers).ok_or(Refusal::Token(TokenError::Missing))?;
                secret.check(token, now).map_err(Refusal::Token)
            }
        }
    }

    /// Whether whoever resolved this name meant this server. An address was not resolved at all.
    fn is_ours(&self, host: &str) -> bool {
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        bare.parse::<IpAddr>().is_ok()
            || host.eq_ignore_ascii_case("localhost")
            || self.hosts.iter().any(|ours| ours.eq_ignore_ascii_case(host))
    }
}

/// The token of a request.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(uri: &str, headers: &[(&str, &str)]) -> Request<()> {
        let mut request = Request::builder().uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap()
    }

    #[test]
    fn a_name_that_only_resolves_to_us_is_refused() {
        let access = Access::new(vec!["node.example".into()], None);
        let check = |host: &str| access.check(&request("/", &[("host", host)]), 0);
        for good in
            ["127.0.0.1:8550", "[::1]:8550", "10.0.0.7", "localhost", "LOCALHOST:1", "node.example:8550"]
        {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        for bad in
            ["evil.example", "evil.example:8550", "127.0.0.1.evil.example", "localhost.evil", "", "a b"]
        {
            assert_eq!(check(bad), Err(Refusal::Host), "{bad}");
        }
        assert_eq!(access.check(&request("/", &[]), 0), Err(Refusal::Host));
        let absolute = request("http://evil.example/", &[("host", "localhost")]);
        assert_eq!(access.check(&absolute, 0), Err(Refusal::Host));
    }

    #[test]
    fn a_browser_is_refused_whatever_page_it_shows() {
        let access = Access::new(Vec::new(), None);
        for origin in ["https://evil.example", "http://127.0.0.1:8550", "null"] {
            let request = request("/", &[("host", "127.0.0.1"), ("origin", origin)]);
            assert_eq!(access.check(&request, 0), Err(Refusal::Origin));
        }
    }

    #[test]
    fn with_a_secret_a_token_is_needed() {
        let secret = JwtSecret::from_bytes(&[1; 32]).unwrap();
        let token = secret.token(1_000).unwrap();
        let access = Access::new(Vec::new(), Some(secret));
        let check = |value: Option<&str>, now| {
            let headers = [("host", "127.0.0.1"), ("authorization", value.unwrap_or_default())];
            let headers = if value.is_some() { &headers[..] } else { &headers[..1] };
            access.check(&request("/", headers), now)
        };
        assert_eq!(check(Some(&format!("Bearer {token}")), 1_000), Ok(()));
        assert_eq!(check(None, 1_000), Err(Refusal::Token(TokenError::Missing)));
        for scheme in ["Basic", "Bearer"] {
            let value = format!("{scheme} {token}x");
            assert!(matches!(check(Some(&value), 1_000), Err(Refusal::Token(_))));
        }
        let late = check(Some(&format!("bearer {token}")), 1_061);
        assert_eq!(late, Err(Refusal::Token(TokenError::Time { iat: 1_000, now: 1_061 })));
    }
}
