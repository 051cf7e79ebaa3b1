//! Seeded records: the streams of the benches, the ways in which streams drift, and what is meant
//! to be slow.

use super::RECORDS;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use windrow::source::{Blobs, BlobsBuilder, Span};

fn batch(mut record: impl FnMut(&mut StdRng, usize) -> String) -> Blobs {
    let mut random = StdRng::seed_from_u64(7);
    let mut blobs = BlobsBuilder::default();
    (0..RECORDS).for_each(|i| blobs.push(Some(record(&mut random, i).as_bytes())));
    blobs.finish()
}

/// `i` counts tenths of seconds.
pub fn time(i: usize, separator: char) -> String {
    let seconds = i / 10;
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    format!("2022-01-01{separator}{hour:02}:{minute:02}:{second:02}")
}

struct Click {
    time: String,
    user: u32,
    page: u32,
    action: &'static str,
}

fn click(random: &mut StdRng, i: usize) -> Click {
    Click {
        time: time(i, 'T'),
        user: random.random_range(0..1000),
        page: random.random_range(0..500),
        action: ["view", "add_to_cart", "purchase"][random.random_range(0..3)],
    }
}

impl Click {
    fn members(&self) -> [String; 4] {
        [
            format!(r#""timestamp":"{}""#, self.time),
            format!(r#""userid":"user_{}""#, self.user),
            format!(r#""page":"/product{}""#, self.page),
            format!(r#""action":"{}""#, self.action),
        ]
    }
}

/// Clicks, each changed by `change`.
fn clicks_with(mut change: impl FnMut(&mut StdRng, &mut [String; 4])) -> Blobs {
    batch(|random, i| {
        let mut members = click(random, i).members();
        change(random, &mut members);
        format!("{{{}}}", members.join(","))
    })
}

pub fn clicks() -> Blobs {
    clicks_with(|_, _| {})
}

/// The members of each object in an order of its own.
pub fn shuffled_clicks() -> Blobs {
    clicks_with(|random, members| {
        (1..4).for_each(|last| members.swap(last, random.random_range(0..=last)));
    })
}

pub fn two_orders() -> Blobs {
    clicks_with(|random, members| {
        if random.random() {
            members.reverse();
        }
    })
}

pub fn nulls() -> Blobs {
    clicks_with(|random, members| {
        for (member, null) in members[1..]
            .iter_mut()
            .zip([r#""userid":null"#, r#""page":null"#])
        {
            if random.random_ratio(1, 10) {
                *member = null.into();
            }
        }
    })
}

/// Half of the producers write blanks.
pub fn blanks() -> Blobs {
    clicks_with(|random, members| {
        if random.random() {
            for member in members {
                *member = format!(" {}", member.replacen(':', ": ", 1));
            }
        }
    })
}

pub fn non_ascii() -> Blobs {
    clicks_with(|_, members| members[2] = members[2].replace("product", "größe"))
}

pub fn escapes_in_one_of_twenty() -> Blobs {
    clicks_with(|random, members| {
        if random.random_ratio(1, 20) {
            members[2] = members[2].replace('/', "\\/");
        }
    })
}

/// JSON, but not of the column's type: these records are bad.
pub fn mistyped_in_one_of_hundred() -> Blobs {
    clicks_with(|random, members| {
        if random.random_ratio(1, 100) {
            members[0] = r#""timestamp":17"#.into();
        }
    })
}

pub fn absent_in_one_of_two() -> Blobs {
    let mut clicks = clicks();
    let spans = clicks.spans.iter_mut().skip(1).step_by(2);
    spans.for_each(|span| *span = Span::ABSENT);
    clicks
}

/// A click whose unwanted member is `action`.
fn clicks_beside(mut action: impl FnMut(&mut StdRng) -> String) -> Blobs {
    clicks_with(|random, members| members[3] = format!(r#""action":{}"#, action(random)))
}

pub fn long_strings() -> Blobs {
    clicks_beside(|random| {
        let letter = ["a", "b", "ü"][random.random_range(0..3)];
        format!("\"{}\"", letter.repeat(4000))
    })
}

pub fn deep_nesting() -> Blobs {
    clicks_beside(|_| format!("{}1{}", r#"[{"a":"#.repeat(60), "}]".repeat(60)))
}

pub fn wide_nesting() -> Blobs {
    clicks_beside(|random| {
        let n: u32 = random.random();
        format!(
            "[{}0]",
            format!(r#"{{"x":{n},"y":[true,"z"]}},"#).repeat(40)
        )
    })
}

pub fn escapes_everywhere() -> Blobs {
    clicks_with(|_, members| {
        for member in members {
            let escaped = |c: char| match c {
                'a'..='z' => format!("\\u{:04x}", u32::from(c)),
                other => other.to_string(),
            };
            let (key, value) = member.split_at(member.find(':').unwrap_or(0));
            let value = match key {
                "\"timestamp\"" => value.to_string(),
                _ => value.chars().map(escaped).collect(),
            };
            *member = key.chars().map(escaped).collect::<String>() + &value;
        }
    })
}

/// Over 2 KiB a row, and no two rows with the same keys.
pub fn wide_rows() -> Blobs {
    batch(|random, i| {
        let mut members = click(random, i).members().to_vec();
        for _ in 0..80 {
            let key: u32 = random.random();
            members.push(format!(r#""key {key}":"{}""#, key % 1000));
        }
        members.swap(0, 40);
        format!("{{{}}}", members.join(","))
    })
}

pub fn csv_clicks() -> Blobs {
    batch(|random, i| {
        let Click {
            time,
            user,
            page,
            action,
        } = click(random, i);
        format!("{time},user_{user},/product{page},{action}")
    })
}

pub fn telemetry() -> Blobs {
    batch(|random, i| {
        let model = ["ncs-5500", "asr-9000", "mx-480"][random.random_range(0..3)];
        let status = if random.random_range(0..10) == 0 {
            "down"
        } else {
            "up"
        };
        let (cpu, memory) = (
            random.random_range(0..10_000),
            random.random_range(0..10_000),
        );
        format!(
            r#"{{"model":"{model}","deviceid":"device-{}","interface":"GigabitEthernet0/0/{}","interfacestatus":"{status}","cpuusage":"{}.{:02}","memoryusage":"{}.{:02}","event_time":"{}.{:03}"}}"#,
            random.random_range(0..200),
            random.random_range(0..48),
            cpu / 100,
            cpu % 100,
            memory / 100,
            memory % 100,
            time(i, ' '),
            random.random_range(0..1000),
        )
    })
}

/// Every record has numbers that need their text again.
pub fn payments() -> Blobs {
    batch(|random, i| {
        format!(
            r#"{{"id":{i},"amount":{}.{:02},"rate":{}.5,"paid":true}}"#,
            random.random_range(0..100_000),
            random.random_range(0..100),
            random.random_range(0..1000),
        )
    })
}
