//! SASL OAUTHBEARER (RFC 7628) with a token that nobody has signed, as test clusters take it:
//! what librdkafka calls `enable.sasl.oauthbearer.unsecure.jwt` and Java's unsecured login module.

use crate::kafka::config::ClientConfig;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value, json};

/// What `sasl.oauthbearer.config` says of the token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsecured {
    claim: String,
    principal: String,
    scope_claim: String,
    scopes: Vec<String>,
    life_s: i64,
    /// Name and value.
    extensions: Vec<(String, String)>,
}

impl Unsecured {
    /// `None` where the configuration asks for something else, or for what librdkafka refuses.
    pub fn new(config: &ClientConfig) -> Option<Self> {
        if config.get("enable.sasl.oauthbearer.unsecure.jwt") != Some("true") {
            return None;
        }
        let mut token = Self {
            claim: "sub".into(),
            principal: String::new(),
            scope_claim: "scope".into(),
            scopes: Vec::new(),
            life_s: 3600,
            extensions: Vec::new(),
        };
        for pair in config.get("sasl.oauthbearer.config")?.split_whitespace() {
            let (key, value) = pair.split_once('=')?;
            match key {
                "principalClaimName" => token.claim = value.into(),
                "principal" => token.principal = value.into(),
                "scopeClaimName" => token.scope_claim = value.into(),
                "scope" => token.scopes = value.split(',').map(str::to_string).collect(),
                "lifeSeconds" => token.life_s = value.parse().ok()?,
                _ => {
                    let name = key.strip_prefix("extension_")?;
                    token.extensions.push((name.into(), value.into()));
                }
            }
        }
        (!token.principal.is_empty()).then_some(token)
    }

    /// The client's first message, with a token that begins now.
    pub fn first(&self, now_s: i64) -> String {
        let mut claims = Map::new();
        claims.insert("iat".into(), now_s.into());
        claims.insert("exp".into(), now_s.saturating_add(self.life_s).into());
        if !self.scopes.is_empty() {
            claims.insert(self.scope_claim.clone(), self.scopes.clone().into());
        }
        claims.insert(self.claim.clone(), self.principal.clone().into());
        let part = |json: Value| URL_SAFE_NO_PAD.encode(json.to_string());
        let token = format!(
            "{}.{}.",
            part(json!({"alg": "none"})),
            part(Value::Object(claims))
        );
        let extensions = self.extensions.iter();
        let extensions: String = extensions.map(|(k, v)| format!("{k}={v}\x01")).collect();
        format!("n,,\x01auth=Bearer {token}\x01{extensions}\x01")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Option<Unsecured> {
        let mut config = ClientConfig::new();
        config
            .set("enable.sasl.oauthbearer.unsecure.jwt", "true")
            .set("sasl.oauthbearer.config", text);
        Unsecured::new(&config)
    }

    #[test]
    fn a_token_says_what_the_property_says() {
        let text = "principalClaimName=azp principal=ann scope=a,b lifeSeconds=60 extension_x=1";
        let first = of(text).unwrap().first(1000);
        let rest = first
            .strip_prefix("n,,\x01auth=Bearer eyJhbGciOiJub25lIn0.")
            .unwrap();
        let (claims, rest) = rest.split_once('.').unwrap();
        let claims = URL_SAFE_NO_PAD.decode(claims).unwrap();
        let claims: Value = serde_json::from_slice(&claims).unwrap();
        let expected = json!({"azp": "ann", "scope": ["a", "b"], "iat": 1000, "exp": 1060});
        assert_eq!((claims, rest), (expected, "\x01x=1\x01\x01"));
    }

    #[test]
    fn what_is_not_understood_is_left_to_librdkafka() {
        for text in [
            "",
            "scope=a",
            "principal=a life=1",
            "principal",
            "principal=a lifeSeconds=x",
        ] {
            assert_eq!(of(text), None, "{text}");
        }
        assert_eq!(Unsecured::new(&ClientConfig::new()), None);
    }
}
