use super::*;
use std::collections::HashMap;

fn rows(dataset: Dataset, options: GeneratorOptions) -> Vec<(Record, Vec<u8>)> {
    let mut generator = Generator::new(dataset, options);
    let mut all = Vec::new();
    loop {
        let mut row = Vec::new();
        let Some(record) = generator.next(&mut row) else {
            return all;
        };
        all.push((record, row));
    }
}

fn options(dataset: Dataset, rows: u64) -> GeneratorOptions {
    GeneratorOptions {
        rows: Some(rows),
        ..GeneratorOptions::new(dataset)
    }
}

fn first(dataset: Dataset) -> String {
    let options = GeneratorOptions {
        disorder_us: 0,
        ..options(dataset, 1)
    };
    String::from_utf8(rows(dataset, options).remove(0).1).unwrap()
}

#[test]
fn first_rows_of_seed_0_stay_as_they_are() {
    // Changing one of these changes every data set that was named by a seed.
    let expected = [
        r#"{"timestamp":"2022-01-01T12:22:25","userid":"user_115","page":"/product2","action":"rating"}"#,
        r#"{"user_id":4953,"artist":"Artist 2","song_id":12,"song_name":"Song 12","event_type":"song_completed","timestamp":"2022-11-03 07:22:13"}"#,
        r#"{"model":"SW-48","deviceid":"dvc1114","interface":"eth3.3","interfacestatus":"down","cpuusage":"93","memoryusage":"1423","event_time":"2023-01-02 00:00:00"}"#,
        r#"{"id":1,"customer_id":6,"location":"Lat: 52.50, Long: 13.20"}"#,
        r#"{"user":"user_2","number":495,"timestampInEpoch":1669852800}"#,
    ];
    assert_eq!(Dataset::ALL.map(first), expected);
}

#[test]
fn rows_are_json_with_the_documented_fields() {
    let fields = [
        "timestamp userid page action",
        "user_id artist song_id song_name event_type timestamp",
        "model deviceid interface interfacestatus cpuusage memoryusage event_time",
        "id customer_id location",
        "user number timestampInEpoch",
    ];
    for (dataset, fields) in Dataset::ALL.into_iter().zip(fields) {
        for (record, row) in rows(dataset, options(dataset, 500)) {
            let value: serde_json::Value = serde_json::from_slice(&row).unwrap();
            let object = value.as_object().unwrap();
            assert_eq!(object.len(), fields.split(' ').count());
            assert!(
                fields.split(' ').all(|f| object.contains_key(f)),
                "{dataset}: {value}"
            );
            let key = std::str::from_utf8(&row[record.key.unwrap()]).unwrap();
            let number = serde_json::from_str::<serde_json::Value>(key).ok();
            let is_key = |v: &serde_json::Value| *v == key || number.as_ref() == Some(v);
            assert!(object.values().any(is_key), "{dataset}: {key}");
        }
    }
}

#[test]
fn bad_records_are_no_rows_and_have_no_key() {
    for dataset in Dataset::ALL {
        let all = rows(
            dataset,
            GeneratorOptions {
                bad_share: 0.1,
                ..options(dataset, 5_000)
            },
        );
        let bad = all
            .iter()
            .filter(|(record, _)| record.key.is_none())
            .count();
        assert!((400..600).contains(&bad), "{dataset}: {bad} bad");
        let time = match dataset {
            Dataset::Telemetry => "event_time",
            Dataset::Rides => "id",
            Dataset::UserNumbers => "timestampInEpoch",
            Dataset::Clickstream | Dataset::Plays => "timestamp",
        };
        let mut kinds = [0; 3];
        for (record, row) in &all {
            let parsed = serde_json::from_slice::<serde_json::Value>(row).ok();
            let kind = match parsed.as_ref().map(|v| &v[time]) {
                None => 0,
                Some(serde_json::Value::Bool(true)) => 1,
                Some(serde_json::Value::String(s))
                    if !s.starts_with("20") || s.contains("-13-") =>
                {
                    2
                }
                Some(_) => {
                    assert!(record.key.is_some(), "{}", String::from_utf8_lossy(row));
                    continue;
                }
            };
            assert!(record.key.is_none(), "{}", String::from_utf8_lossy(row));
            kinds[kind] += 1;
        }
        assert!(kinds.iter().all(|k| *k > 50), "{dataset}: {kinds:?}");
    }
}

#[test]
fn event_times_follow_the_options() {
    let options = GeneratorOptions {
        events_per_second: 10.0,
        disorder_us: 5_000_000,
        late_share: 0.02,
        late_by_us: 60_000_000,
        ..options(Dataset::Telemetry, 10_000)
    };
    let (start, mut late) = (options.start_us, 0);
    for (i, (record, row)) in rows(Dataset::Telemetry, options).into_iter().enumerate() {
        assert_eq!(record.produced_us, start + i as i64 * 100_000);
        let mut behind = record.produced_us - record.event_time_us;
        if behind > 30_000_000 {
            (late, behind) = (late + 1, behind - 60_000_000);
        }
        // Up to the disorder, plus what cutting to the second takes.
        assert!(
            (0..6_000_000).contains(&behind),
            "row {i} is {behind} us behind"
        );
        let value: serde_json::Value = serde_json::from_slice(&row).unwrap();
        let said = chrono::NaiveDateTime::parse_from_str(
            value["event_time"].as_str().unwrap(),
            "%Y-%m-%d %H:%M:%S",
        );
        assert_eq!(
            said.unwrap().and_utc().timestamp_micros(),
            record.event_time_us
        );
    }
    assert!((120..280).contains(&late), "{late} late rows");
}

#[test]
fn keys_bound_the_cardinality_and_popularity_falls() {
    let options = GeneratorOptions {
        keys: 20,
        ..options(Dataset::Clickstream, 20_000)
    };
    let mut pages: HashMap<String, u64> = HashMap::new();
    for (_, row) in rows(Dataset::Clickstream, options) {
        let value: serde_json::Value = serde_json::from_slice(&row).unwrap();
        *pages
            .entry(value["page"].as_str().unwrap().to_string())
            .or_default() += 1;
    }
    assert_eq!(pages.len(), 20);
    assert!(
        pages["/product1"] > 3 * pages["/product5"] && pages["/product5"] > 2 * pages["/product20"]
    );
}

#[test]
fn an_unknown_name_names_the_nearest() {
    assert_eq!("plays".parse::<Dataset>().unwrap(), Dataset::Plays);
    let error = "clickstrem".parse::<Dataset>().unwrap_err();
    assert!(error.to_string().contains("'clickstream'"), "{error}");
    assert_eq!(error.exit_code(), 2);
}

/// The files in `datasets/`: one dirty sample of each stream, and the tables beside the rides.
/// Lateness is chosen so that some of those rows still find an open window, or some of theirs.
fn sample(dataset: Dataset) -> GeneratorOptions {
    let defaults = GeneratorOptions::new(dataset);
    let (rows, events_per_second, late_seconds, keys) = match dataset {
        Dataset::Clickstream => (1500, 5.0, 30, 20),
        Dataset::Plays => (1500, 5.0, 45, 40),
        Dataset::Telemetry => (1500, 5.0, 40, 50),
        Dataset::Rides => (1000, 1.0, 0, 50),
        Dataset::UserNumbers => (1000, 4.0, 45, 10),
    };
    GeneratorOptions {
        seed: 2022,
        rows: Some(rows),
        events_per_second,
        disorder_us: 4_000_000,
        late_share: 0.01,
        late_by_us: late_seconds * 1_000_000,
        bad_share: 0.01,
        keys,
        ..defaults
    }
}

fn ndjson(dataset: Dataset) -> Vec<u8> {
    let mut file = Vec::new();
    for (_, row) in rows(dataset, sample(dataset)) {
        file.extend_from_slice(&row);
        file.push(b'\n');
    }
    file
}

const FIRST_NAMES: [&str; 8] = [
    "Ada", "Björn", "Chidi", "Dana", "Emre", "Fatma", "Grace", "Hanna",
];
const LAST_NAMES: [&str; 7] = [
    "Adler",
    "Becker",
    "Çelik",
    "Dubois",
    "O'Neil",
    "\"Red\" Park",
    "Smith, Jr.",
];

fn quoted(text: &str) -> String {
    if text.contains(['"', ',']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_string()
    }
}

/// `customer_id,name,tier`. Customers 49 and 50 ride, but are not in the table.
fn customers_csv() -> String {
    let tiers = ["standard", "standard", "plus", "business"];
    let line = |id: usize| {
        let name = quoted(&format!("{} {}", FIRST_NAMES[id % 8], LAST_NAMES[id % 7]));
        format!("{id},{name},{}\n", tiers[id % 4])
    };
    (1..=48).map(line).collect()
}

/// `driver_id,name,car,seats`.
fn drivers_csv() -> String {
    let cars = [("hatchback", 4), ("estate", 4), ("van", 7)];
    let line = |id: usize| {
        let name = quoted(&format!(
            "{} {}",
            FIRST_NAMES[(id + 3) % 8],
            LAST_NAMES[(id + 5) % 7]
        ));
        format!("{id},{name},{},{}\n", cars[id % 3].0, cars[id % 3].1)
    };
    (1..=20).map(line).collect()
}

/// `WINDROW_UPDATE=1` writes the files instead of comparing them.
#[test]
fn samples_are_what_the_generators_give() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("datasets");
    let mut files = Dataset::ALL
        .map(|d| (format!("{d}.ndjson"), ndjson(d)))
        .to_vec();
    files.push(("customers.csv".to_string(), customers_csv().into_bytes()));
    files.push(("drivers.csv".to_string(), drivers_csv().into_bytes()));
    for (name, bytes) in files {
        let path = folder.join(&name);
        if std::env::var_os("WINDROW_UPDATE").is_some() {
            std::fs::write(&path, &bytes).unwrap();
        }
        let same = std::fs::read(&path).unwrap() == bytes;
        assert!(
            same,
            "datasets/{name} is not what the generator gives; see datasets/README.md for the command"
        );
    }
}
