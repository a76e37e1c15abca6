//! Tokens of callers: HS256 over a moment, with a secret that both sides have in a file, as the Engine API has it.

use std::{fmt, path::Path};

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use p2p_client::network::identity::{self, IdentityError};
use serde::{Deserialize, Serialize};

/// How far the moment in a token may be from our clock, in seconds.
const TOLERANCE: u64 = 60;

/// The secret that callers share with a server.
#[derive(Clone)]
pub struct JwtSecret {
    decoding: DecodingKey,
    encoding: EncodingKey,
}

impl fmt::Debug for JwtSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JwtSecret(…)")
    }
}

/// Why there is no secret.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SecretError {
    /// The file cannot be read or made, or others may read it.
    #[error(transparent)]
    File(#[from] IdentityError),
    /// The file has a key of another kind.
    #[error("a JWT secret is 64 hexadecimal digits and nothing else")]
    Form,
}

/// Why a token is not one of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TokenError {
    #[error("a token is needed: Authorization: Bearer <JWT>")]
    Missing,
    #[error("the token is not signed with this server's secret by HS256")]
    Signature,
    #[error("the token's iat is {iat}, more than {TOLERANCE} s from this host's clock at {now}")]
    Time { iat: u64, now: u64 },
}

#[derive(Serialize, Deserialize)]
struct Claims {
    /// When it was made, in unix seconds.
    iat: u64,
}

impl JwtSecret {
    /// The secret in a file; if there is no such file, a new one, readable by its owner only (0600). The file has the form
    /// of the node's key: 64 hexadecimal digits, with or without `0x`. One that others may read is refused.
    ///
    /// # Errors
    /// [`SecretError`].
    pub fn load_or_create(path: &Path) -> Result<Self, SecretError> {
        let key = identity::load_or_create(path)?.try_into_secp256k1().map_err(|_| SecretError::Form)?;
        Self::from_bytes(&key.secret().to_bytes())
    }

    /// A secret of 32 bytes.
    ///
    /// # Errors
    /// [`SecretError::Form`] if the system's cryptography does not take it.
    pub fn from_bytes(secret: &[u8; 32]) -> Result<Self, SecretError> {
        let decoding = DecodingKey::from_secret(secret).map_err(|_| SecretError::Form)?;
        let encoding = EncodingKey::from_secret(secret).map_err(|_| SecretError::Form)?;
        Ok(Self { decoding, encoding })
    }

    /// A token for a caller, good around this moment in unix seconds. None if the system's cryptography fails.
    #[must_use]
    pub fn token(&self, now: u64) -> Option<String> {
        jsonwebtoken::encode(&Header::new(Algorithm::HS256), &Claims { iat: now }, &self.encoding).ok()
    }

    /// Whether a token is one of ours.
    pub(crate) fn check(&self, token: &str, now: u64) -> Result<(), TokenError> {
        let mut rules = Validation::new(Algorithm::HS256);
        // Its age is all that counts, and is judged below.
        rules.required_spec_claims.clear();
        (rules.validate_exp, rules.validate_aud) = (false, false);
        let token = jsonwebtoken::decode::<Claims>(token, &self.decoding, &rules);
        let Claims { iat } = token.map_err(|_| TokenError::Signature)?.claims;
        if iat.abs_diff(now) <= TOLERANCE { Ok(()) } else { Err(TokenError::Time { iat, now }) }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const NOW: u64 = 1_760_000_000;

    fn secret(byte: u8) -> JwtSecret {
        JwtSecret::from_bytes(&[byte; 32]).unwrap()
    }

    #[test]
    fn a_token_is_good_for_a_minute_before_and_after() {
        let (ours, token) = (secret(1), secret(1).token(NOW).unwrap());
        for now in [NOW - 60, NOW, NOW + 60] {
            assert_eq!(ours.check(&token, now), Ok(()));
        }
        for now in [NOW - 61, NOW + 61] {
            assert_eq!(ours.check(&token, now), Err(TokenError::Time { iat: NOW, now }));
        }
    }

    #[test]
    fn a_token_of_another_secret_or_algorithm_is_refused() {
        let ours = secret(1);
        let sign = |algorithm| {
            let key = EncodingKey::from_secret(&[1; 32]).unwrap();
            jsonwebtoken::encode(&Header::new(algorithm), &Claims { iat: NOW }, &key).unwrap()
        };
        assert_eq!(ours.check(&sign(Algorithm::HS256), NOW), Ok(()));
        // {"alg":"none","typ":"JWT"} and {"iat":1760000000}, without a signature.
        let unsigned = "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.eyJpYXQiOjE3NjAwMDAwMDB9.";
        for bad in [secret(2).token(NOW).unwrap(), sign(Algorithm::HS512), unsigned.into(), String::new()] {
            assert_eq!(ours.check(&bad, NOW), Err(TokenError::Signature), "{bad}");
        }
    }

    #[test]
    fn a_token_without_a_moment_is_refused() {
        let key = EncodingKey::from_secret(&[1; 32]).unwrap();
        let claims = serde_json::json!({ "sub": "builder" });
        let token = jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &key).unwrap();
        assert_eq!(secret(1).check(&token, NOW), Err(TokenError::Signature));
    }

    #[test]
    fn a_secret_is_made_once_and_read_by_its_owner_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rpc/jwt.hex");
        let made = JwtSecret::load_or_create(&path).unwrap();
        let read = JwtSecret::load_or_create(&path).unwrap();
        assert_eq!(read.check(&made.token(NOW).unwrap(), NOW), Ok(()));
        assert_eq!(format!("{made:?}"), "JwtSecret(…)");
        // What a caller has of the file is the same secret.
        let text = fs::read_to_string(&path).unwrap();
        let bytes = alloy_primitives::hex::decode(text.trim()).unwrap();
        let theirs = JwtSecret::from_bytes(&bytes.try_into().unwrap()).unwrap();
        assert_eq!(read.check(&theirs.token(NOW).unwrap(), NOW), Ok(()));
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
            fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
            assert!(matches!(JwtSecret::load_or_create(&path), Err(SecretError::File(_))));
        }
    }
}
