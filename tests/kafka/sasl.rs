//! Passwords, by the Java client's names.

use super::*;
use crate::support::broker;

fn broker() -> &'static Broker {
    static BROKER: OnceLock<Broker> = OnceLock::new();
    BROKER.get_or_init(|| {
        Broker::start_with(broker::Options {
            sasl: true,
            ..Default::default()
        })
    })
}

fn login(mechanism: &str, password: &str) -> [(&'static str, String); 3] {
    let module = match mechanism {
        "PLAIN" => "org.apache.kafka.common.security.plain.PlainLoginModule",
        _ => "org.apache.kafka.common.security.scram.ScramLoginModule",
    };
    [
        ("properties.security.protocol", "SASL_PLAINTEXT".into()),
        ("properties.sasl.mechanism", mechanism.into()),
        (
            "properties.sasl.jaas.config",
            format!(
                "{module} required username=\"{}\" password=\"{password}\";",
                Broker::SASL_USER
            ),
        ),
    ]
}

fn as_sql(login: &[(&str, String)]) -> String {
    login
        .iter()
        .map(|(k, v)| format!(", '{k}' = '{v}'"))
        .collect()
}

with_both_clients!(
    passwords_open_source_sink_and_dead_letters,
    a_token_opens_the_source,
);

fn passwords_open_source_sink_and_dead_letters(with: With) {
    let broker = broker();
    for mechanism in ["PLAIN", "SCRAM-SHA-256"] {
        let topic = |what: &str| format!("sasl-{}-{what}-{}", mechanism.to_lowercase(), with.0);
        for what in ["in", "out", "dead"] {
            client::create_topic(&broker.bootstrap(), &topic(what), 1);
        }
        client::produce(&broker.bootstrap(), &topic("in"), 0, &[r#"{"a":1}"#, "bad"]);
        let login = as_sql(&login(mechanism, Broker::SASL_PASSWORD));
        let dead = format!(
            ", 'bad-records' = 'dead-letter', 'dead-letter.topic' = '{}'",
            topic("dead")
        );
        let source = format!("{login}{dead}, 'source.client' = '{}'", with.0);
        let sql = source_sql("i", &topic("in"), "a INT", &source)
            + &sink_sql("o", &topic("out"), "a INT", &login)
            + "INSERT INTO o SELECT a FROM i;";
        run_sql(&broker.sasl_bootstrap(), &sql).unwrap();
        let read = |what: &str| client::read_all(&broker.bootstrap(), &topic(what));
        assert_eq!(
            (read("out"), read("dead")),
            (
                vec![(0, r#"{"a":1}"#.to_string())],
                vec![(0, "bad".to_string())]
            ),
            "{mechanism}"
        );
    }
}

#[test]
fn a_wrong_password_ends_the_direct_reader() {
    let bootstrap = broker().sasl_bootstrap();
    for mechanism in ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] {
        let login = login(mechanism, "wrong");
        let options: Vec<_> = login.iter().map(|(k, v)| (*k, v.as_str())).collect();
        let source = With::DIRECT.open(&bootstrap, "t", &options);
        let mut reader = source.reader(&[unasked("t")]).unwrap();
        let error = ends_with(reader.as_mut());
        assert_says(&error, &["refuses: ", "properties.sasl"]);
    }
}

/// librdkafka tries a wrong password for ever, and reports each request as a time-out.
#[test]
fn a_wrong_password_of_a_source_is_an_error_soon() {
    for mechanism in ["PLAIN", "SCRAM-SHA-256"] {
        let login = login(mechanism, "wrong");
        let options: Vec<_> = login.iter().map(|(k, v)| (*k, v.as_str())).collect();
        let source = open(&broker().sasl_bootstrap(), "t", &options);
        let started = Instant::now();
        let error = source
            .partitions(None, &mut |_| started.elapsed() < PATIENCE)
            .unwrap_err();
        assert_says(&error, &["refuses: Authentication", "properties.sasl"]);
        assert!(
            started.elapsed() < Duration::from_secs(15),
            "{mechanism}: {:?}",
            started.elapsed()
        );
    }
}

/// librdkafka's producer alone would try until its delivery time-out.
#[test]
fn a_wrong_password_of_a_sink_is_an_error_soon() {
    let broker = broker();
    client::create_topic(&broker.bootstrap(), "sasl-wrong-sink", 1);
    for mechanism in ["PLAIN", "SCRAM-SHA-256"] {
        let sql = "CREATE TABLE d (a INT) WITH ('connector' = 'datagen', 'number-of-rows' = '3');\n"
            .to_string()
            + &sink_sql(
                "o",
                "sasl-wrong-sink",
                "a INT",
                &as_sql(&login(mechanism, "wrong")),
            ) + "INSERT INTO o SELECT a FROM d;";
        let started = Instant::now();
        let error = run_sql(&broker.sasl_bootstrap(), &sql).unwrap_err();
        assert_says(
            &error,
            &["refuses", "uthentication failed", "properties.sasl"],
        );
        assert!(
            started.elapsed() < Duration::from_secs(20),
            "{mechanism}: {:?}",
            started.elapsed()
        );
    }
}

/// A token that nobody has signed, by librdkafka's names and by Java's.
fn tokens() -> [Vec<(&'static str, &'static str)>; 2] {
    let both = [
        ("properties.security.protocol", "SASL_PLAINTEXT"),
        ("properties.sasl.mechanism", "OAUTHBEARER"),
    ];
    let librdkafka = [
        ("properties.enable.sasl.oauthbearer.unsecure.jwt", "true"),
        (
            "properties.sasl.oauthbearer.config",
            "principal=ann lifeSeconds=60",
        ),
    ];
    let java = (
        "properties.sasl.jaas.config",
        "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required unsecuredLoginStringClaim_sub=\"ann\";",
    );
    [
        [&both[..], &librdkafka].concat(),
        [&both[..], &[java]].concat(),
    ]
}

fn a_token_opens_the_source(with: With) {
    let broker = broker();
    let topic = format!("sasl-token-{}", with.0);
    client::create_topic(&broker.bootstrap(), &topic, 1);
    client::produce(&broker.bootstrap(), &topic, 0, &["a", "b"]);
    for token in tokens() {
        let options = [&[FROM_START, TO_END], &token[..]].concat();
        let source = with.open(&broker.sasl_bootstrap(), &topic, &options);
        assert_eq!(drain(&source, 1).texts(), ["a", "b"], "{token:?}");
    }
}

/// The broker says why in a message of its own, which has to be answered before it refuses.
#[test]
fn a_token_that_has_run_out_ends_the_direct_reader() {
    let mut token = tokens()[0].clone();
    token[3].1 = "principal=ann lifeSeconds=-600";
    let source = With::DIRECT.open(&broker().sasl_bootstrap(), "t", &token);
    let mut reader = source.reader(&[unasked("t")]).unwrap();
    let error = ends_with(reader.as_mut());
    assert_says(&error, &["refuses: ", "properties.sasl"]);
}
