//! A user without rights: an error that names what is missing, never an endless wait.

use super::*;
use crate::support::broker::Options;
use crate::support::wire::{Resource, Right, allow, forbid};
use Resource::{Group, Topic, TransactionalId};
use Right::{Describe, Read, Write};
use std::sync::OnceLock;

fn broker() -> &'static Broker {
    static BROKER: OnceLock<Broker> = OnceLock::new();
    BROKER.get_or_init(|| {
        Broker::start_with(Options {
            sasl: true,
            acls: true,
            ..Options::default()
        })
    })
}

/// What alice's tables add to their options.
fn login() -> String {
    format!(
        ", 'properties.security.protocol' = 'SASL_PLAINTEXT', 'properties.sasl.mechanism' = 'PLAIN', \
         'properties.sasl.username' = '{}', 'properties.sasl.password' = '{}'",
        Broker::SASL_USER,
        Broker::SASL_PASSWORD
    )
}

/// A topic with two rows.
fn topic(name: &str) {
    client::create_topic(&broker().bootstrap(), name, 1);
    produce(&broker().bootstrap(), name, 0..2);
}

fn may(resource: Resource<'_>, rights: &[Right]) {
    for right in rights {
        allow(&broker().bootstrap(), resource, *right);
    }
}

fn reads(topic: &str, options: &str) -> String {
    let options = login() + options;
    source_sql(&broker().sasl_bootstrap(), topic, "a INT", &options)
}

/// Copies to a topic; the source is generated or alice may read it.
fn writes(source: &str, to: &str, options: &str) -> String {
    let options = login() + options;
    let sink = kafka_sink_sql(&broker().sasl_bootstrap(), to, "a INT", &options);
    format!("{source}{sink}INSERT INTO o SELECT a FROM i;")
}

const GENERATED: &str =
    "CREATE TABLE i (a INT) WITH ('connector' = 'datagen', 'number-of-rows' = '3');\n";

#[track_caller]
fn fails(sql: &str, args: &[&str], parts: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    let ended = Run::start(windrow(folder.path(), sql, args)).end();
    ended.assert(1, &[&["error: ", "hint: "], parts].concat());
}

#[test]
fn a_topic_that_may_not_be_read_is_an_error_at_the_start() {
    for client in CLIENTS {
        let with = format!(", 'source.client' = '{client}'");
        // It may not even know that there is such a topic.
        let hidden = format!("rights-hidden-{client}");
        topic(&hidden);
        let select = |topic: &str| reads(topic, &with) + "SELECT a FROM i;";
        fails(&select(&hidden), &[], &[&hidden, "Describe", "alice"]);
        let seen = format!("rights-seen-{client}");
        topic(&seen);
        may(Topic(&seen), &[Describe]);
        fails(&select(&seen), &[], &[&seen, "Read", "alice"]);
        let absent = format!("rights-absent-{client}");
        fails(&select(&absent), &[], &[&absent, "Describe", "alice"]);
    }
}

#[test]
fn a_right_to_read_that_is_taken_away_ends_the_query() {
    for client in CLIENTS {
        let name = format!("rights-taken-{client}");
        topic(&name);
        may(Topic(&name), &[Read, Describe]);
        let sql = reads(&name, &format!(", 'source.client' = '{client}'")) + "SELECT a FROM i;";
        let folder = tempfile::tempdir().unwrap();
        let run = Run::start(windrow(folder.path(), &sql, &["--format", "json"]));
        run.prints(r#"{"a":1}"#);
        forbid(&broker().bootstrap(), Topic(&name), Read);
        let place = format!("not allowed to read {name}/0 offset 2");
        run.end().assert(1, &[&place, "Read on topic", "alice"]);
    }
}

#[test]
fn a_group_that_may_not_be_read_is_an_error() {
    topic("rights-group");
    may(Topic("rights-group"), &[Read, Describe]);
    let options = ", 'properties.group.id' = 'rights-g'";
    let sql = reads("rights-group", options).replace("earliest-offset", "group-offsets");
    let sql = sql + "SELECT a FROM i;";
    fails(&sql, &[], &["group 'rights-g'", "Read", "alice"]);
}

/// Only tools look at a group's offsets: a query goes on without, and says so.
#[test]
fn a_group_that_may_not_be_written_to_is_told() {
    let name = "rights-lag";
    topic(name);
    may(Topic(name), &[Read, Describe]);
    for client in CLIENTS {
        let options =
            format!(", 'properties.group.id' = 'rights-lag', 'source.client' = '{client}'");
        let sql = reads(name, &options) + "SELECT a FROM i;";
        let folder = tempfile::tempdir().unwrap();
        let states = folder.path().join("states").display().to_string();
        let args = ["--checkpoint", &states, "--until-end", "--format", "json"];
        let ended = Run::start(windrow(folder.path(), &sql, &args)).end();
        ended.assert(
            0,
            &[
                "WARN cannot commit the offsets of group 'rights-lag'",
                "Read",
                "alice",
            ],
        );
        // The first checkpoint and the last: a commit that is refused is not tried again.
        assert_eq!(ended.stderr.matches("cannot commit").count(), 1);
        assert_eq!(ended.stdout, "{\"a\":0}\n{\"a\":1}");
    }
}

#[test]
fn a_topic_that_may_not_be_written_to_is_an_error() {
    let out = "rights-closed-out";
    client::create_topic(&broker().bootstrap(), out, 1);
    let said = ["topic", out, "Write", "Describe", "alice"];
    fails(&writes(GENERATED, out, ""), &[], &said);
    may(Topic(out), &[Describe]);
    let said = [out, "Write", "alice"];
    fails(&writes(GENERATED, out, ""), &[], &said);
    let plain = ", 'sink.delivery-guarantee' = 'none'";
    fails(&writes(GENERATED, out, plain), &[], &said);
}

#[test]
fn a_right_to_write_that_is_taken_away_ends_the_query() {
    for guarantee in ["at-least-once", "exactly-once"] {
        let name = |what: &str| format!("rights-{guarantee}-{what}");
        let (source, out) = (name("in"), name("out"));
        topic(&source);
        client::create_topic(&broker().bootstrap(), &out, 1);
        may(Topic(&source), &[Read, Describe]);
        may(Topic(&out), &[Write, Read, Describe]);
        let folder = tempfile::tempdir().unwrap();
        let states = folder.path().join("states").display().to_string();
        let guarantee = format!(", 'sink.delivery-guarantee' = '{guarantee}'");
        let sql = "SET 'execution.checkpointing.interval' = '100 ms'; SET 'trigger' = '100 ms';\n"
            .to_string()
            + &writes(&reads(&source, ""), &out, &guarantee);
        let args = ["--checkpoint", &states];
        if guarantee.contains("exactly") {
            may_have_transactions(&sql, &states);
        }
        let run = Run::start(windrow(folder.path(), &sql, &args));
        until("two rows", || {
            topic_numbers(&broker().bootstrap(), &out) == [0, 1]
        });
        forbid(&broker().bootstrap(), Topic(&out), Write);
        produce(&broker().bootstrap(), &source, 2..5);
        run.end().assert(1, &["error: ", &out, "Write", "alice"]);
        // Given back, everything goes on.
        may(Topic(&out), &[Write]);
        let args = ["--checkpoint", &states, "--until-end"];
        let again = Run::start(windrow(folder.path(), &sql, &args)).end();
        again.assert(0, &[]);
        assert_eq!(topic_numbers(&broker().bootstrap(), &out), [0, 1, 2, 3, 4]);
    }
}

/// Lets alice do what the job needs beside its topics. Its ids are known when it was started once.
fn may_have_transactions(sql: &str, states: &str) {
    let id = transactional_id(sql, states);
    may(TransactionalId(&id), &[Write, Describe]);
    may(Group(&format!("windrow-{id}")), &[Read]);
}

fn transactional_id(sql: &str, states: &str) -> String {
    fails(sql, &["--checkpoint", states], &["transaction", "alice"]);
    let job = std::fs::read_to_string(Path::new(states).join("job")).unwrap();
    format!("windrow-{}", &job[..16])
}

#[test]
fn what_a_transaction_lacks_is_named() {
    let (source, out) = ("rights-once-in", "rights-once-out");
    topic(source);
    client::create_topic(&broker().bootstrap(), out, 1);
    may(Topic(source), &[Read, Describe]);
    may(Topic(out), &[Write, Read, Describe]);
    let folder = tempfile::tempdir().unwrap();
    let states = folder.path().join("states").display().to_string();
    let once = ", 'sink.delivery-guarantee' = 'exactly-once'";
    let sql = writes(&reads(source, ""), out, once);
    let args = ["--checkpoint", states.as_str(), "--until-end"];
    let id = transactional_id(&sql, &states);
    let group = format!("windrow-{id}");
    fails(
        &sql,
        &args,
        &[&format!("transactional id '{id}'"), "Write", "alice"],
    );
    may(TransactionalId(&id), &[Write, Describe]);
    fails(&sql, &args, &[&format!("group '{group}'"), "Read", "alice"]);
    may(Group(&group), &[Read]);
    let ended = Run::start(windrow(folder.path(), &sql, &args)).end();
    ended.assert(0, &[]);
    assert_eq!(topic_numbers(&broker().bootstrap(), out), [0, 1]);
}

#[test]
fn a_dead_letter_topic_that_may_not_be_written_to_is_an_error() {
    let (source, dead) = ("rights-dead-in", "rights-dead");
    topic(source);
    client::create_topic(&broker().bootstrap(), dead, 1);
    client::produce(&broker().bootstrap(), source, 0, &["bad"]);
    may(Topic(source), &[Read, Describe]);
    let letters = format!(", 'bad-records' = 'dead-letter', 'dead-letter.topic' = '{dead}'");
    let sql = reads(source, &letters) + "SELECT a FROM i;";
    fails(&sql, &["--until-end"], &[dead, "Write", "alice"]);
    may(Topic(dead), &[Describe]);
    fails(&sql, &["--until-end"], &[dead, "Write", "alice"]);
}
