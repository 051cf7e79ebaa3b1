use super::*;

const AT: At = At { line: 1, column: 1 };

#[test]
fn unknown_option_names_the_nearest() {
    let error = Options::default()
        .insert("kafka", "scan.statup.mode", "x", AT)
        .unwrap_err();
    assert_eq!(error.hint(), Some("did you mean 'scan.startup.mode'?"));
    assert_eq!(error.exit_code(), 2);
}

/// They are properties, which were forgotten to be said to be.
#[test]
fn a_clients_property_without_its_prefix_is_told_from_others() {
    for (key, meant) in [
        ("bootstrap.servers", "properties.bootstrap.servers"),
        ("group.id", "properties.group.id"),
        ("propertes.group.id", "properties.group.id"),
        ("kafak.group.id", "kafka.group.id"),
    ] {
        let mut options = Options::default();
        let error = options.insert("kafka", key, "x", AT).unwrap_err();
        let hint = format!("did you mean '{meant}'?");
        assert_eq!(error.hint(), Some(hint.as_str()));
    }
    let mut options = Options::default();
    let error = options.insert("print", "group.id", "x", AT).unwrap_err();
    assert!(error.hint().unwrap().contains("explain --options"));
}

/// Nothing is written by no writer; a file of no bytes is each row's own.
#[test]
fn numbers_of_which_0_means_nothing() {
    let mut options = Options::default();
    let mut refused = |key, value| {
        let error = options.insert("filesystem", key, value, AT).unwrap_err();
        error.hint().unwrap().to_string()
    };
    for value in ["0", "-1"] {
        assert_eq!(
            refused("sink.parallelism", value),
            "it takes a number, more than 0"
        );
    }
    let size = refused("sink.rolling-policy.file-size", "0");
    assert_eq!(size, "it takes a size (128MB), more than 0");
    let error = options.insert("kafka", "scan.bounded.timestamp-millis", "x", AT);
    assert_eq!(error.unwrap_err().hint(), Some("it takes milliseconds"));
}

#[test]
fn spark_names_become_flink_names() {
    let mut options = Options::default();
    options.insert("kafka", "subscribe", "clicks", AT).unwrap();
    options
        .insert("kafka", "kafka.bootstrap.servers", "h:1", AT)
        .unwrap();
    options
        .insert("kafka", "startingOffsets", "earliest", AT)
        .unwrap();
    assert_eq!(options.get("topic"), Some("clicks"));
    assert_eq!(options.get("properties.bootstrap.servers"), Some("h:1"));
    assert_eq!(options.get("scan.startup.mode"), Some("earliest-offset"));
    assert!(options.insert("kafka", "topic", "again", AT).is_err());
}

#[test]
fn values_are_checked() {
    let error = Options::default()
        .insert("kafka", "scan.startup.mode", "sooner", AT)
        .unwrap_err();
    assert!(error.hint().unwrap().contains("earliest-offset"));
    assert_eq!(parse_duration("10 s"), Some(Duration::from_secs(10)));
    assert_eq!(parse_duration("1.5min"), Some(Duration::from_secs(90)));
    assert_eq!(parse_duration("250"), Some(Duration::from_millis(250)));
    assert_eq!(parse_duration("ten"), None);
    assert_eq!(parse_size("128MB"), Some(128 << 20));
}

#[test]
fn formats_have_options_of_their_own_in_key_and_value() {
    let mut options = Options::default();
    let mut given = |key, value| options.insert("kafka", key, value, AT);
    given("value.csv.field-delimiter", ";").unwrap();
    given("key.csv.field-delimiter", "|").unwrap();
    given("key.json.fail-on-missing-field", "true").unwrap();
    let error = given("key.json.fail-on-missing-feld", "true").unwrap_err();
    assert!(
        error
            .to_string()
            .contains("'key.json.fail-on-missing-feld'")
    );
    assert!(given("csv.field-delimiter", "x").is_err(), "given twice");
    assert_eq!(options.get("csv.field-delimiter"), Some(";"));
    assert_eq!(options.get("json.fail-on-missing-field"), None);
    let key = options.of_key();
    assert_eq!(key.get("csv.field-delimiter"), Some("|"));
    assert_eq!(key.get("json.fail-on-missing-field"), Some("true"));
    let mut file = Options::default();
    assert!(
        file.insert("filesystem", "key.json.fail-on-missing-field", "true", AT)
            .is_err()
    );
}
