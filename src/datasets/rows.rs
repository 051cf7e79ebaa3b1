//! One writer per data set: a row's JSON, in the order of the fields in `datasets/README.md`.

use super::Dataset;
use super::random::{Random, Share, Zipf};
use super::text::{Clock, push_hundredths, push_number};
use std::ops::Range;

const MODELS: [&str; 5] = ["CR-100", "CR-200", "ER-40", "SW-24", "SW-48"];

/// What a data set keeps from row to row.
#[derive(Debug, Clone)]
pub(super) enum Row {
    Clickstream(Clickstream),
    Plays(Plays),
    Telemetry(Telemetry),
    Rides(Rides),
    UserNumbers(UserNumbers),
}

#[derive(Debug, Clone)]
pub(super) struct Clickstream {
    clock: Clock,
    pages: Zipf,
    users: u64,
    rating: Share,
}

#[derive(Debug, Clone)]
pub(super) struct Plays {
    clock: Clock,
    songs: Zipf,
    users: u64,
}

#[derive(Debug, Clone)]
pub(super) struct Telemetry {
    clock: Clock,
    devices: u64,
    down: Share,
}

#[derive(Debug, Clone)]
pub(super) struct Rides {
    customers: u64,
}

#[derive(Debug, Clone)]
pub(super) struct UserNumbers {
    users: Zipf,
}

impl Row {
    pub(super) fn new(dataset: Dataset, keys: u64) -> Self {
        match dataset {
            Dataset::Clickstream => Row::Clickstream(Clickstream {
                clock: Clock::new(b'T'),
                pages: Zipf::new(keys),
                users: keys.saturating_mul(10),
                rating: Share::new(0.2),
            }),
            Dataset::Plays => Row::Plays(Plays {
                clock: Clock::new(b' '),
                songs: Zipf::new(keys),
                users: keys.saturating_mul(10),
            }),
            Dataset::Telemetry => Row::Telemetry(Telemetry {
                clock: Clock::new(b' '),
                devices: keys,
                down: Share::new(0.1),
            }),
            Dataset::Rides => Row::Rides(Rides { customers: keys }),
            Dataset::UserNumbers => Row::UserNumbers(UserNumbers {
                users: Zipf::new(keys),
            }),
        }
    }

    /// Appends a row; returns where its key stands.
    #[inline]
    pub(super) fn write(
        &mut self,
        random: &mut Random,
        out: &mut Vec<u8>,
        number: u64,
        time_us: i64,
    ) -> Range<usize> {
        match self {
            Row::Clickstream(row) => row.write(random, out, time_us),
            Row::Plays(row) => row.write(random, out, time_us),
            Row::Telemetry(row) => row.write(random, out, time_us),
            Row::Rides(row) => row.write(random, out, number),
            Row::UserNumbers(row) => row.write(random, out, time_us),
        }
    }

    /// A field that every query needs, and what cannot be its value.
    fn wrong_field(&self) -> (&'static [u8], &'static [u8], &'static [u8]) {
        match self {
            Row::Clickstream(_) | Row::Plays(_) => {
                (b"timestamp", b"true", b"\"2022-13-45 99:99:99\"")
            }
            Row::Telemetry(_) => (b"event_time", b"true", b"\"yesterday\""),
            Row::Rides(_) => (b"id", b"true", b"\"first\""),
            Row::UserNumbers(_) => (b"timestampInEpoch", b"true", b"\"soon\""),
        }
    }
}

/// Appends a number with `prefix` before it; returns where both stand.
#[inline]
fn push_id(out: &mut Vec<u8>, prefix: &[u8], number: u64) -> Range<usize> {
    let start = out.len();
    out.extend_from_slice(prefix);
    push_number(out, number);
    start..out.len()
}

impl Clickstream {
    #[inline]
    fn write(&mut self, random: &mut Random, out: &mut Vec<u8>, time_us: i64) -> Range<usize> {
        out.extend_from_slice(b"{\"timestamp\":\"");
        self.clock.push(out, time_us);
        out.extend_from_slice(b"\",\"userid\":\"");
        let key = push_id(out, b"user_", 1 + random.below(self.users));
        out.extend_from_slice(b"\",\"page\":\"");
        push_id(out, b"/product", 1 + self.pages.draw(random));
        let action: &[u8] = if random.chance(self.rating) {
            b"\",\"action\":\"rating\"}"
        } else {
            b"\",\"action\":\"view\"}"
        };
        out.extend_from_slice(action);
        key
    }
}

impl Plays {
    #[inline]
    fn write(&mut self, random: &mut Random, out: &mut Vec<u8>, time_us: i64) -> Range<usize> {
        let song = 1 + self.songs.draw(random);
        out.extend_from_slice(b"{\"user_id\":");
        let key = push_id(out, b"", 1 + random.below(self.users));
        // About ten songs by each artist.
        out.extend_from_slice(b",\"artist\":\"");
        push_id(out, b"Artist ", 1 + song / 10);
        out.extend_from_slice(b"\",\"song_id\":");
        push_number(out, song);
        out.extend_from_slice(b",\"song_name\":\"");
        push_id(out, b"Song ", song);
        out.extend_from_slice(b"\",\"event_type\":\"song_completed\",\"timestamp\":\"");
        self.clock.push(out, time_us);
        out.extend_from_slice(b"\"}");
        key
    }
}

impl Telemetry {
    #[inline]
    fn write(&mut self, random: &mut Random, out: &mut Vec<u8>, time_us: i64) -> Range<usize> {
        let device = random.below(self.devices);
        // A device keeps its model.
        let model = (device % MODELS.len() as u64) as usize;
        out.extend_from_slice(b"{\"model\":\"");
        out.extend_from_slice(MODELS[model].as_bytes());
        out.extend_from_slice(b"\",\"deviceid\":\"");
        let key = push_id(out, b"dvc", 1000 + device);
        out.extend_from_slice(b"\",\"interface\":\"");
        let port = random.below(32);
        push_id(out, b"eth", port / 4);
        push_id(out, b".", port % 4);
        out.extend_from_slice(b"\",\"interfacestatus\":\"");
        let status: &[u8] = if random.chance(self.down) {
            b"down"
        } else {
            b"connected"
        };
        out.extend_from_slice(status);
        out.extend_from_slice(b"\",\"cpuusage\":\"");
        push_number(out, 50 + random.below(51));
        out.extend_from_slice(b"\",\"memoryusage\":\"");
        push_number(out, 1000 + random.below(501));
        out.extend_from_slice(b"\",\"event_time\":\"");
        self.clock.push(out, time_us);
        out.extend_from_slice(b"\"}");
        key
    }
}

impl Rides {
    #[inline]
    fn write(&mut self, random: &mut Random, out: &mut Vec<u8>, number: u64) -> Range<usize> {
        out.extend_from_slice(b"{\"id\":");
        push_number(out, 1 + number);
        out.extend_from_slice(b",\"customer_id\":");
        let key = push_id(out, b"", 1 + random.below(self.customers));
        // Within Berlin.
        out.extend_from_slice(b",\"location\":\"Lat: ");
        push_hundredths(out, 5240 + random.below(22));
        out.extend_from_slice(b", Long: ");
        push_hundredths(out, 1320 + random.below(40));
        out.extend_from_slice(b"\"}");
        key
    }
}

impl UserNumbers {
    #[inline]
    fn write(&mut self, random: &mut Random, out: &mut Vec<u8>, time_us: i64) -> Range<usize> {
        out.extend_from_slice(b"{\"user\":\"");
        let key = push_id(out, b"user_", 1 + self.users.draw(random));
        out.extend_from_slice(b"\",\"number\":");
        push_number(out, random.below(1000));
        out.extend_from_slice(b",\"timestampInEpoch\":");
        // Times before the epoch have no place in this data set.
        push_number(out, (time_us / 1_000_000).max(0) as u64);
        out.push(b'}');
        key
    }
}

/// Appends a record that is no row: cut JSON, no JSON, and, in the field that carries the time (of
/// rides: the id), a wrong type or a value that cannot be read.
pub(super) fn write_bad(
    row: &mut Row,
    random: &mut Random,
    out: &mut Vec<u8>,
    number: u64,
    time_us: i64,
) {
    let start = out.len();
    row.write(random, out, number, time_us);
    let (field, wrong_type, unreadable) = row.wrong_field();
    match random.below(4) {
        0 => {
            let length = (out.len() - start) as u64;
            out.truncate(start + 1 + random.below(length - 1) as usize);
        }
        1 => {
            out.truncate(start);
            push_id(out, b"no JSON: record ", number);
        }
        2 => replace_value(out, start, field, wrong_type),
        _ => replace_value(out, start, field, unreadable),
    }
}

/// Puts `value` where the value of `field` stands in the row that begins at `start`.
fn replace_value(out: &mut Vec<u8>, start: usize, field: &[u8], value: &[u8]) {
    let name = out[start..].windows(field.len() + 3).position(|w| {
        let inner = w.strip_prefix(b"\"").and_then(|w| w.strip_suffix(b"\":"));
        inner == Some(field)
    });
    let Some(name) = name else { return };
    let from = start + name + field.len() + 3;
    // None of these values holds a comma or a brace of its own.
    let length = out[from..]
        .iter()
        .position(|b| matches!(b, b',' | b'}'))
        .unwrap_or(0);
    out.splice(from..from + length, value.iter().copied());
}
