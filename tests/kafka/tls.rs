//! TLS, by librdkafka's names.

use super::*;
use crate::support::broker;

with_both_clients!(a_certificate_of_ones_own_is_trusted);

fn broker() -> &'static Broker {
    static BROKER: OnceLock<Broker> = OnceLock::new();
    let options = broker::Options {
        tls: true,
        ..Default::default()
    };
    BROKER.get_or_init(|| Broker::start_with(options))
}

const TLS: (&str, &str) = ("properties.security.protocol", "SSL");

fn a_certificate_of_ones_own_is_trusted(with: With) {
    let broker = broker();
    let topic = format!("tls-{}", with.0);
    client::create_topic(&broker.bootstrap(), &topic, 1);
    let values: Vec<String> = (0..20_000).map(|i| format!("value {i}")).collect();
    let texts: Vec<&str> = values.iter().map(String::as_str).collect();
    client::produce(&broker.bootstrap(), &topic, 0, &texts);
    let file = broker.certificate();
    let pem = std::fs::read_to_string(&file).unwrap();
    for trust in [
        ("properties.ssl.ca.location", file.to_str().unwrap()),
        ("properties.ssl.truststore.location", file.to_str().unwrap()),
        ("properties.ssl.ca.pem", &pem),
        ("properties.enable.ssl.certificate.verification", "false"),
    ] {
        let bootstrap = format!("127.0.0.1:{}", broker.tls_port());
        let options = [FROM_START, TO_END, TLS, trust];
        let received = drain(&with.open(&bootstrap, &topic, &options), 1);
        assert!(received.texts() == texts, "{trust:?}: {}", received.count());
    }
}

/// What the direct reader tells while it cannot connect; no partitions are asked for before.
fn told(host: &str, options: &[(&str, &str)]) -> String {
    let bootstrap = format!("{host}:{}", broker().tls_port());
    let source = With::DIRECT.open(&bootstrap, "t", &[&[TLS], options].concat());
    let mut reader = source.reader(&[unasked("t")]).unwrap();
    outcome(reader.as_mut()).unwrap()
}

fn assert_told(told: &str, part: &str) {
    assert!(told.contains(part), "{told:?} lacks {part:?}");
}

#[test]
fn a_broker_that_cannot_prove_itself_is_not_read() {
    let file = broker().certificate();
    let own = ("properties.ssl.ca.location", file.to_str().unwrap());
    let any_name = ("properties.ssl.endpoint.identification.algorithm", "none");
    // Somebody else's certificate.
    let other = ("properties.ssl.ca.pem", OTHER);
    assert_told(&told("127.0.0.1", &[other]), "invalid peer certificate");
    // The right one, of another name.
    assert_told(&told("localhost", &[own]), "not valid for name");
    // With any name, what is missing is the topic.
    assert_told(&told("localhost", &[own, any_name]), "UNKNOWN_TOPIC");
    // The name does not replace the signature.
    let both = [other, any_name];
    assert_told(&told("localhost", &both), "invalid peer certificate");
}

/// It was waited for without the reason.
#[test]
fn why_partitions_are_not_found_is_told() {
    let bootstrap = format!("127.0.0.1:{}", broker().tls_port());
    let source = With::DIRECT.open(&bootstrap, "t", &[TLS, ("properties.ssl.ca.pem", OTHER)]);
    let mut told = Vec::new();
    let found = source.partitions(None, &mut |text| {
        told.extend((!text.is_empty()).then(|| text.to_string()));
        !told
            .last()
            .is_some_and(|t| t.contains("certificate verify failed"))
    });
    assert_says(&found.unwrap_err(), &["stopped while waiting"]);
}

/// A certificate whose key nobody has.
const OTHER: &str = "\
-----BEGIN CERTIFICATE-----
MIIBdjCCAR2gAwIBAgIUW8exNmXdzzh+vymuEO3iCU/XDE8wCgYIKoZIzj0EAwIw
EDEOMAwGA1UEAwwFb3RoZXIwIBcNMjYxMTIxMTMzNTM2WhgPMjEyNjEwMjgxMzM1
MzZaMBAxDjAMBgNVBAMMBW90aGVyMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE
FWgEICcsFnoy4bHmW/KhjLutgTt1fTtvaix419GTBNEJUxzPoqa2lYDKP1D3V+/W
+Flw/5QnSxRVN4HW1CQ9OaNTMFEwHQYDVR0OBBYEFKVLVcMRZA422begvIifVMHr
NE/4MB8GA1UdIwQYMBaAFKVLVcMRZA422begvIifVMHrNE/4MA8GA1UdEwEB/wQF
MAMBAf8wCgYIKoZIzj0EAwIDRwAwRAIgd/wb7nDq5Lv0xi+R59KxjkF4H0h0jujo
1i1MgVmSsksCIG7fdkt6kPChiIOXmav38q+7CW+P4QEZWQ/R1lE72slL
-----END CERTIFICATE-----
";
