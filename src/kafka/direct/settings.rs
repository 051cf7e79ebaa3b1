//! What of a client configuration this client needs, and whether it can do what is asked.

use super::messages::FetchLimits;
use super::oauth::Unsecured;
use super::sasl::{Hash, Login};
use super::tls::Tls;
use crate::error::{Error, Result};
use crate::kafka::config::ClientConfig;
use crate::kafka::faults;
use std::time::Duration;

const PORT: u16 = 9092;
/// What one response may hold: enough to keep the broker busy while it is unpacked, small
/// beside everything else that a query keeps in memory.
const FETCH_BYTES: i32 = 2 << 20;
const PARTITION_BYTES: i32 = 1 << 20;
const MAX_WAIT_MS: i32 = 100;

/// Settings beginning with `ssl.`, `sasl.` and the like that are understood.
const UNDERSTOOD: &[&str] = &[
    "enable.ssl.certificate.verification",
    "sasl.mechanisms",
    "sasl.oauthbearer.config",
    "sasl.password",
    "sasl.username",
    "security.protocol",
    "ssl.ca.location",
    "ssl.ca.pem",
    "ssl.certificate.location",
    "ssl.certificate.pem",
    "ssl.endpoint.identification.algorithm",
    "ssl.key.location",
    "ssl.key.pem",
];

pub struct Settings {
    /// As the user gave it, for messages.
    pub bootstrap: String,
    pub servers: Vec<(String, u16)>,
    /// Whose rights count, for messages.
    pub who: String,
    pub client_id: String,
    pub limits: FetchLimits,
    pub partition_bytes: i32,
    /// How long a response may take beyond the time that the broker may wait for data.
    pub patience: Duration,
    pub tls: Option<Tls>,
    pub login: Option<Login>,
}

impl Settings {
    /// How long a broker may hold a Fetch request that finds nothing.
    pub fn longest_wait(&self) -> Duration {
        Duration::from_millis(self.limits.max_wait_ms.max(0) as u64)
    }

    /// Reads the files that the configuration names; opens no connection.
    pub fn new(config: &ClientConfig) -> Result<Self> {
        let bootstrap = config.get("bootstrap.servers").unwrap_or_default();
        let protocol = config.get("security.protocol").unwrap_or("plaintext");
        let servers: Vec<_> = bootstrap.split(',').filter_map(server).collect();
        if servers.is_empty() {
            return Err(Error::env(format!(
                "client property 'bootstrap.servers' = '{bootstrap}' names no server"
            )));
        }
        let patience = number(config, "socket.timeout.ms", 30_000)?;
        Ok(Self {
            bootstrap: bootstrap.to_string(),
            servers,
            who: faults::who(config),
            client_id: config.get("client.id").unwrap_or("windrow").to_string(),
            limits: FetchLimits {
                max_wait_ms: number(config, "fetch.wait.max.ms", MAX_WAIT_MS)?,
                min_bytes: number(config, "fetch.min.bytes", 1)?,
                max_bytes: number(config, "fetch.max.bytes", FETCH_BYTES)?,
                read_committed: config.get("isolation.level") != Some("read_uncommitted"),
            },
            partition_bytes: first(
                config,
                &["fetch.message.max.bytes", "max.partition.fetch.bytes"],
                PARTITION_BYTES,
            )?,
            patience: Duration::from_millis(patience.max(1000) as u64),
            tls: match protocol.ends_with("ssl") {
                true => Some(Tls::new(config)?),
                false => None,
            },
            login: match protocol.starts_with("sasl") {
                true => login(config),
                false => None,
            },
        })
    }
}

/// `[PROTOCOL://]HOST[:PORT]`, the host of an IPv6 address in brackets.
fn server(text: &str) -> Option<(String, u16)> {
    let text = text.trim();
    let text = text.rsplit_once("://").map_or(text, |(_, rest)| rest);
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !host.ends_with(':') => (host, port.parse().ok()?),
        _ => (text, PORT),
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    (!host.is_empty()).then(|| (host.to_string(), port))
}

fn number(config: &ClientConfig, key: &str, default: i32) -> Result<i32> {
    first(config, &[key], default)
}

fn first(config: &ClientConfig, keys: &[&str], default: i32) -> Result<i32> {
    let Some((key, text)) = keys.iter().find_map(|k| Some((k, config.get(k)?))) else {
        return Ok(default);
    };
    text.trim()
        .parse()
        .map_err(|_| Error::env(format!("client property '{key}' = '{text}' is no number")))
}

fn mechanism(config: &ClientConfig) -> String {
    config
        .get("sasl.mechanisms")
        .or_else(|| config.get("sasl.mechanism"))
        .unwrap_or("GSSAPI")
        .to_uppercase()
}

fn login(config: &ClientConfig) -> Option<Login> {
    if mechanism(config) == "OAUTHBEARER" {
        return Unsecured::new(config).map(Login::Bearer);
    }
    let user = config.get("sasl.username")?;
    let password = config.get("sasl.password")?;
    match mechanism(config).as_str() {
        "PLAIN" => Some(Login::plain(user, password)),
        "SCRAM-SHA-256" => Some(Login::scram(Hash::Sha256, user, password)),
        "SCRAM-SHA-512" => Some(Login::scram(Hash::Sha512, user, password)),
        _ => None,
    }
}

/// Why this client cannot do what the configuration asks for; `None` where it can.
pub fn unsupported(config: &ClientConfig) -> Option<String> {
    let protocol = config.get("security.protocol").unwrap_or("plaintext");
    if protocol.starts_with("sasl") && login(config).is_none() {
        return Some(format!(
            "sasl.mechanism {} with these properties",
            mechanism(config)
        ));
    }
    let named = |key: &str| UNDERSTOOD.contains(&key) || key == "sasl.mechanism";
    let secret = |key: &str| key.starts_with("ssl.") || key.starts_with("sasl.");
    let map = config.config_map();
    if let Some(key) = map.keys().find(|key| secret(key) && !named(key)) {
        return Some(format!("the property {key}"));
    }
    // A rack means that followers are read, too.
    if let Some(key) = ["client.rack", "plugin.library.paths"]
        .into_iter()
        .find(|key| config.get(key).is_some())
    {
        return Some(format!("the property {key}"));
    }
    let ca = config.get("ssl.ca.location").unwrap_or_default();
    if ca == "probe" || std::path::Path::new(ca).is_dir() {
        return Some("ssl.ca.location that is no file".into());
    }
    let given = |keys: [&str; 2]| keys.iter().any(|key| config.get(key).is_some());
    let chain = given(["ssl.certificate.location", "ssl.certificate.pem"]);
    let key = given(["ssl.key.location", "ssl.key.pem"]);
    (chain != key).then(|| "a client certificate without its key, or a key without it".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(pairs: &[(&str, &str)]) -> ClientConfig {
        let mut config = ClientConfig::new();
        for (key, value) in pairs {
            config.set(*key, *value);
        }
        config
    }

    #[test]
    fn servers_have_a_host_and_perhaps_a_port() {
        let settings = config(&[("bootstrap.servers", "a:1, b ,SSL://c:3,[::1]:4,d:x,:5")]);
        let servers = Settings::new(&settings).map(|s| s.servers).ok();
        let expected = [("a", 1), ("b", 9092), ("c", 3), ("::1", 4)];
        let expected: Vec<_> = expected.map(|(h, p)| (h.to_string(), p)).into();
        assert_eq!(servers, Some(expected));
        assert!(Settings::new(&config(&[("bootstrap.servers", " , ")])).is_err());
        let wrong = [("bootstrap.servers", "a"), ("fetch.max.bytes", "1 MB")];
        assert!(Settings::new(&config(&wrong)).is_err());
    }

    #[test]
    fn what_is_not_spoken_is_named() {
        let user = [("sasl.username", "u"), ("sasl.password", "p")];
        let sasl = ("security.protocol", "sasl_ssl");
        let with = |more: &[(&str, &str)]| unsupported(&config(&[&user, more].concat()));
        assert_eq!(unsupported(&config(&[])), None);
        for mechanism in ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] {
            assert_eq!(with(&[sasl, ("sasl.mechanisms", mechanism)]), None);
        }
        let bearer = [
            sasl,
            ("sasl.mechanisms", "OAUTHBEARER"),
            ("enable.sasl.oauthbearer.unsecure.jwt", "true"),
            ("sasl.oauthbearer.config", "principal=ann"),
        ];
        assert_eq!(unsupported(&config(&bearer)), None);
        for (options, part) in [
            (&[sasl][..], "GSSAPI"),
            (&[sasl, ("sasl.mechanisms", "OAUTHBEARER")], "OAUTHBEARER"),
            (&[("ssl.key.password", "x")], "ssl.key.password"),
            (
                &[("ssl.keystore.location", "x.p12")],
                "ssl.keystore.location",
            ),
            (
                &[("sasl.oauthbearer.method", "oidc")],
                "sasl.oauthbearer.method",
            ),
            (&[("client.rack", "a")], "client.rack"),
            (&[("ssl.ca.location", "probe")], "ssl.ca.location"),
            (&[("ssl.key.location", "x.pem")], "client certificate"),
        ] {
            let reason = with(options).unwrap_or_default();
            assert!(reason.contains(part), "{options:?}: {reason}");
        }
    }
}
