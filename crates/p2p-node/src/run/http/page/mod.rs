//! `/`: one page for people, which asks `/status` every second. It loads nothing else, and runs and shows nothing but what is
//! in it.

use std::sync::LazyLock;

use axum::http::{HeaderName, header};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use sha2::{Digest as _, Sha256};

const STYLE: &str = include_str!("style.css");
const SCRIPT: &str = include_str!("script.js");
const PAGE: &str = concat!(
    "<!doctype html>\n<html lang=\"en\">\n<head>\n",
    include_str!("head.html"),
    "<style>",
    include_str!("style.css"),
    "</style>\n</head>\n<body>\n",
    include_str!("body.html"),
    "<script>",
    include_str!("script.js"),
    "</script>\n</body>\n</html>\n"
);

/// What the browser lets the page do: run this script, apply this style, and ask this node. Text never becomes markup.
static POLICY: LazyLock<String> = LazyLock::new(|| {
    let hash = |text: &str| BASE64_STANDARD.encode(Sha256::digest(text));
    format!(
        "default-src 'none'; script-src 'sha256-{}'; style-src 'sha256-{}'; img-src data:; connect-src 'self'; base-uri 'none'; \
         form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
        hash(SCRIPT),
        hash(STYLE)
    )
});

/// The page, the same for everybody.
pub(super) async fn page() -> ([(HeaderName, &'static str); 6], &'static str) {
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, POLICY.as_str()),
        (header::CACHE_CONTROL, "no-store"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ];
    (headers, PAGE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_names_nothing_outside_itself() {
        for word in ["http:", "https:", "//cdn", "src=", "@import", "url(", "innerHTML", "eval("] {
            let own = "http://www.w3.org/2000/svg";
            assert!(!PAGE.replace(own, "").contains(word), "{word}");
        }
    }

    #[test]
    fn the_policy_allows_the_pages_own_script_and_style_only() {
        assert_eq!((PAGE.matches("<script").count(), PAGE.matches("<style").count()), (1, 1));
        assert!(PAGE.contains(&format!("<script>{SCRIPT}</script>")));
        assert!(PAGE.contains(&format!("<style>{STYLE}</style>")));
        assert!(!PAGE.contains(" style=") && !PAGE.contains(" onclick="));
        assert!(!POLICY.contains("unsafe"));
    }
}
