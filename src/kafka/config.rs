//! Client properties: the Java client's names, or librdkafka's own, become librdkafka's.

use crate::error::{Error, Result, nearest};
use crate::options::{Options, PROPERTIES};
use crate::table::TableDef;
pub use rdkafka::ClientConfig;

/// Java names whose librdkafka name differs.
const RENAMED: &[(&str, &str)] = &[
    ("fetch.max.wait.ms", "fetch.wait.max.ms"),
    ("max.block.ms", "message.timeout.ms"),
    ("delivery.timeout.ms", "message.timeout.ms"),
    ("max.request.size", "message.max.bytes"),
    ("ssl.ca", "ssl.ca.pem"),
    ("ssl.truststore.certificates", "ssl.ca.pem"),
    ("ssl.keystore.certificate.chain", "ssl.certificate.pem"),
    ("ssl.keystore.key", "ssl.key.pem"),
    ("receive.buffer.bytes", "socket.receive.buffer.bytes"),
    ("send.buffer.bytes", "socket.send.buffer.bytes"),
];

/// Java names that mean nothing to the client: accepted, so that a working configuration goes on working.
/// (`auto.offset.reset` means something to the source.)
const IGNORED: &[&str] = &[
    "key.deserializer",
    "value.deserializer",
    "key.serializer",
    "value.serializer",
    "enable.auto.commit",
    "auto.commit.interval.ms",
    "auto.offset.reset",
    "max.poll.records",
    "flink.partition-discovery.interval-millis",
    "partition.assignment.strategy",
    "sasl.client.callback.handler.class",
    "sasl.login.callback.handler.class",
    "ssl.truststore.type",
    "ssl.keystore.type",
    "schema.registry.url",
    "interceptor.classes",
    "default.api.timeout.ms",
    "exclude.internal.topics",
    "metric.reporters",
    "metrics.num.samples",
    "metrics.recording.level",
    "metrics.sample.window.ms",
    "partitioner.class",
    "ssl.protocol",
    "ssl.enabled.protocols",
];

/// Builds a configuration from `properties.*` (without that prefix).
pub fn client_config<'a>(
    properties: impl Iterator<Item = (&'a str, &'a str)>,
) -> Result<ClientConfig> {
    let mut config = ClientConfig::new();
    for (key, value) in properties {
        if IGNORED.contains(&key) {
            tracing::debug!("client property {key} has no meaning here and is ignored");
            continue;
        }
        match key {
            "sasl.jaas.config" => jaas(value, &mut config)?,
            "sasl.mechanism" => {
                config.set("sasl.mechanisms", value);
            }
            "security.protocol" => {
                config.set(key, value.to_lowercase());
            }
            "ssl.truststore.location" => {
                config.set("ssl.ca.location", pem(key, value)?);
            }
            "ssl.keystore.location" => {
                config.set("ssl.keystore.location", pkcs12(key, value)?);
            }
            "ssl.truststore.password" => {}
            // Java's -1: as the system has it, which is the default.
            "receive.buffer.bytes" | "send.buffer.bytes" if value.trim() == "-1" => {}
            "ssl.endpoint.identification.algorithm" => {
                let algorithm = match value.trim() {
                    "" => "none".to_string(),
                    other => other.to_lowercase(),
                };
                config.set(key, algorithm);
            }
            "buffer.memory" => {
                let bytes: u64 = value.parse().map_err(|_| invalid(key, value))?;
                config.set(
                    "queue.buffering.max.kbytes",
                    (bytes / 1024).max(1).to_string(),
                );
            }
            _ => {
                let name = RENAMED
                    .iter()
                    .find(|(java, _)| *java == key)
                    .map_or(key, |(_, name)| name);
                config.set(name, value);
            }
        }
    }
    check(&config)?;
    if let Some(servers) = config.get("bootstrap.servers") {
        addresses(servers)?;
    }
    Ok(config)
}

/// Refuses what can be no `host:port,…`: a client would wait for it.
fn addresses(servers: &str) -> Result<()> {
    let is_address = |server: &str| {
        let named = server.rsplit_once(':').filter(|_| !server.ends_with(']'));
        let (host, port) = named.unwrap_or((server, "9092"));
        // (As Java's clients have it, a listener's name may stand before.)
        let host = host.rsplit_once("://").map_or(host, |(_, host)| host);
        !host.is_empty() && port.parse::<u16>().is_ok()
    };
    let is_web = |server: &str| server.starts_with("http:") || server.starts_with("https:");
    // (Clients pass over empty ones.)
    let given = servers.split(',').map(str::trim);
    let given: Vec<&str> = given.filter(|server| !server.is_empty()).collect();
    let wrong = given.iter().find(|s| !is_address(s) || is_web(s));
    match wrong.copied().or(given.is_empty().then_some(servers)) {
        None => Ok(()),
        Some(server) => {
            let error = Error::sql(format!(
                "client property 'bootstrap.servers': '{server}' is no address"
            ));
            Err(error.with_hint("it takes host:port, or several with commas between"))
        }
    }
}

/// A table's `properties.*` (without that prefix) for a producer, which is in no consumer group.
pub fn producer_properties(options: &Options) -> impl Iterator<Item = (&str, &str)> {
    let properties = options.with_prefix("properties.");
    properties.filter(|(key, _)| *key != "group.id")
}

/// The configuration of a table's clients; an error points at the property.
pub fn config_of(def: &TableDef) -> Result<ClientConfig> {
    let properties = || def.options.with_prefix("properties.");
    client_config(properties()).map_err(|error| {
        let mut alone = properties();
        let wrong = alone.find(|property| client_config([*property].into_iter()).is_err());
        let at = wrong.and_then(|(key, _)| def.options.at(&format!("properties.{key}")));
        error.or_at(at.unwrap_or(def.at))
    })
}

/// Lets librdkafka judge the names and values.
fn check(config: &ClientConfig) -> Result<()> {
    let Err(e) = config.create_native_config() else {
        return Ok(());
    };
    // The value may be a password, under a name that is misspelled.
    let rdkafka::error::KafkaError::ClientConfig(_, reason, key, _) = &e else {
        return Err(Error::sql("client properties: they are refused"));
    };
    let error = Error::sql(format!("client property '{key}': {}", reason.trim()));
    Err(match nearest(key, PROPERTIES.iter().copied()) {
        Some(hint) => error.with_hint(hint),
        None => error.with_hint("properties.* takes the Java client's names and librdkafka's"),
    })
}

fn invalid(key: &str, value: &str) -> Error {
    Error::sql(format!("client property '{key}' = '{value}' is no number"))
}

/// `…PlainLoginModule required username="u" password="p";`
fn jaas(text: &str, config: &mut ClientConfig) -> Result<()> {
    let field = |name: &str| -> Option<String> {
        let (_, rest) = text.split_once(&format!("{name}="))?;
        let quote = rest.chars().next().filter(|c| matches!(c, '"' | '\''))?;
        rest[1..]
            .split_once(quote)
            .map(|(value, _)| value.to_string())
    };
    if text.contains("OAuthBearerLoginModule") {
        let Some(user) = field("unsecuredLoginStringClaim_sub") else {
            return Err(Error::sql(
                "sasl.jaas.config: OAuthBearerLoginModule is understood with unsecuredLoginStringClaim_sub=\"…\" alone",
            )
            .with_hint("for tokens of an identity provider set properties.sasl.oauthbearer.method = 'oidc' and librdkafka's other properties.sasl.oauthbearer.*"));
        };
        config
            .set("enable.sasl.oauthbearer.unsecure.jwt", "true")
            .set("sasl.oauthbearer.config", format!("principal={user}"));
        return Ok(());
    }
    if !text.contains("PlainLoginModule") && !text.contains("ScramLoginModule") {
        return Err(Error::sql(
            "sasl.jaas.config: only PlainLoginModule, ScramLoginModule and OAuthBearerLoginModule are understood",
        )
        .with_hint("or set properties.sasl.username and properties.sasl.password"));
    }
    match (field("username"), field("password")) {
        (Some(user), Some(password)) => {
            config
                .set("sasl.username", user)
                .set("sasl.password", password);
            Ok(())
        }
        _ => Err(Error::sql(
            "sasl.jaas.config holds no username=\"…\" password=\"…\"",
        )),
    }
}

fn pem<'a>(key: &str, value: &'a str) -> Result<&'a str> {
    if value.ends_with(".jks") || value.ends_with(".p12") {
        return Err(Error::sql(format!("client property '{key}': {value} is a Java key store, which only Java reads"))
            .with_hint("export it: keytool -exportcert -rfc -keystore … > ca.pem, and set properties.ssl.ca.location"));
    }
    Ok(value)
}

fn pkcs12<'a>(key: &str, value: &'a str) -> Result<&'a str> {
    if value.ends_with(".jks") {
        return Err(Error::sql(format!("client property '{key}': {value} is a Java key store, which only Java reads"))
            .with_hint("convert it: keytool -importkeystore -deststoretype PKCS12, or set properties.ssl.certificate.location and ssl.key.location"));
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pairs: &[(&str, &str)]) -> Result<ClientConfig> {
        client_config(pairs.iter().copied())
    }

    #[test]
    fn java_names_become_librdkafka_names() {
        let config = of(&[
            ("bootstrap.servers", "h:9092"),
            ("security.protocol", "SASL_SSL"),
            ("sasl.mechanism", "PLAIN"),
            ("sasl.jaas.config", "org.apache.kafka.common.security.plain.PlainLoginModule required username=\"ann\" password=\"s=1;\";"),
            ("fetch.max.wait.ms", "100"),
            ("max.poll.records", "500"),
            ("ssl.truststore.location", "/etc/ca.pem"),
        ])
        .unwrap();
        for (key, value) in [
            ("security.protocol", "sasl_ssl"),
            ("sasl.mechanisms", "PLAIN"),
            ("sasl.username", "ann"),
            ("sasl.password", "s=1;"),
            ("fetch.wait.max.ms", "100"),
            ("ssl.ca.location", "/etc/ca.pem"),
        ] {
            assert_eq!(config.get(key), Some(value), "{key}");
        }
        assert_eq!(config.get("max.poll.records"), None);
    }

    /// They were refused as names that librdkafka does not know.
    #[test]
    fn a_java_consumers_whole_configuration_is_taken() {
        let config = of(&[
            ("receive.buffer.bytes", "65536"),
            ("send.buffer.bytes", "-1"),
            ("default.api.timeout.ms", "60000"),
            ("exclude.internal.topics", "true"),
            ("metric.reporters", ""),
            ("partitioner.class", "org.example.Partitioner"),
            ("ssl.protocol", "TLSv1.3"),
            ("ssl.enabled.protocols", "TLSv1.2,TLSv1.3"),
            ("ssl.truststore.certificates", "-----BEGIN CERTIFICATE-----"),
            ("ssl.endpoint.identification.algorithm", ""),
        ])
        .unwrap();
        for (key, value) in [
            ("socket.receive.buffer.bytes", Some("65536")),
            ("socket.send.buffer.bytes", None),
            ("ssl.ca.pem", Some("-----BEGIN CERTIFICATE-----")),
            ("ssl.endpoint.identification.algorithm", Some("none")),
        ] {
            assert_eq!(config.get(key), value, "{key}");
        }
        let https = of(&[("ssl.endpoint.identification.algorithm", "HTTPS")]).unwrap();
        assert_eq!(
            https.get("ssl.endpoint.identification.algorithm"),
            Some("https")
        );
    }

    #[test]
    fn mistakes_are_named() {
        let error = of(&[("bootstrap.server", "h:1")]).unwrap_err();
        assert_eq!(error.hint(), Some("did you mean 'bootstrap.servers'?"));
        assert!(
            of(&[("ssl.truststore.location", "trust.jks")])
                .unwrap_err()
                .hint()
                .unwrap()
                .contains("keytool")
        );
        assert!(of(&[("sasl.jaas.config", "com.sun.Krb5LoginModule required;")]).is_err());
    }
}
