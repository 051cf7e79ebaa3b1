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
