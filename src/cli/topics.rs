//! `windrow topics list|create|describe`.

use super::say;
use crate::error::{Error, Result, nearest};
use crate::kafka::admin;
use crate::kafka::config::{ClientConfig, client_config};
use clap::Subcommand;
use std::sync::atomic::AtomicBool;

/// How to reach a broker; shared by the commands that speak to one.
#[derive(clap::Args, Clone)]
pub struct Connection {
    /// Brokers to ask first.
    #[arg(
        long,
        short = 'b',
        alias = "bootstrap",
        env = "WINDROW_BOOTSTRAP",
        default_value = "localhost:9092",
        value_name = "HOST:PORT"
    )]
    pub bootstrap_server: String,
    /// A client property, by the Java client's or librdkafka's name.
    #[arg(long = "property", short = 'X', value_name = "KEY=VALUE")]
    pub properties: Vec<String>,
}

impl Connection {
    /// All properties, the brokers included.
    pub fn pairs(&self) -> Result<Vec<(String, String)>> {
        let mut pairs = vec![(
            "bootstrap.servers".to_string(),
            self.bootstrap_server.clone(),
        )];
        for p in &self.properties {
            let (key, value) = p
                .split_once('=')
                .ok_or_else(|| Error::Usage(format!("--property {p}: expected KEY=VALUE")))?;
            pairs.push((key.to_string(), value.to_string()));
        }
        Ok(pairs)
    }

    pub fn config(&self) -> Result<ClientConfig> {
        let pairs = self.pairs()?;
        client_config(pairs.iter().map(|(k, v)| (k.as_str(), v.as_str())))
    }
}

#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Names and numbers of partitions.
    List {
        #[command(flatten)]
        connection: Connection,
    },
    /// Create a topic.
    Create {
        topic: String,
        #[arg(long, short, default_value_t = 1, value_parser = clap::value_parser!(i32).range(1..))]
        partitions: i32,
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(i32).range(1..))]
        replication_factor: i32,
        /// A topic setting, e.g. retention.ms=86400000.
        #[arg(long, value_name = "KEY=VALUE")]
        config: Vec<String>,
        /// A topic that exists already is no error.
        #[arg(long)]
        if_not_exists: bool,
        #[command(flatten)]
        connection: Connection,
    },
    /// Partitions with leaders, replicas and offsets.
    Describe {
        topic: String,
        #[command(flatten)]
        connection: Connection,
    },
}

pub fn run(args: Args, _: &AtomicBool) -> Result<()> {
    match args.action {
        Action::List { connection } => {
            for topic in admin::list(&connection.config()?)? {
                let n = topic.partitions.len();
                let plural = if n == 1 { "" } else { "s" };
                say(format_args!("{}\t{n} partition{plural}", topic.name))?;
            }
            Ok(())
        }
        Action::Create {
            topic,
            partitions,
            replication_factor,
            config,
            if_not_exists,
            connection,
        } => {
            let mut settings = Vec::new();
            for c in &config {
                let (key, value) = c
                    .split_once('=')
                    .ok_or_else(|| Error::Usage(format!("--config {c}: expected KEY=VALUE")))?;
                settings.push((key.to_string(), value.to_string()));
            }
            let created = admin::create(
                &connection.config()?,
                &topic,
                partitions,
                replication_factor,
                &settings,
            )?;
            match (created, if_not_exists) {
                (true, _) => say(format_args!(
                    "created topic {topic} with {partitions} partition{}",
                    if partitions == 1 { "" } else { "s" }
                )),
                (false, true) => say(format_args!("topic {topic} exists already")),
                (false, false) => Err(Error::env(format!("topic '{topic}' exists already"))
                    .with_hint("--if-not-exists makes this no error")),
            }
        }
        Action::Describe { topic, connection } => describe(&connection, &topic),
    }
}

fn describe(connection: &Connection, name: &str) -> Result<()> {
    let config = connection.config()?;
    let Some(topic) = admin::describe(&config, name)? else {
        let all = admin::list(&config)?;
        let names: Vec<&str> = all.iter().map(|t| t.name.as_str()).collect();
        let hint = nearest(name, names.iter().copied())
            .unwrap_or_else(|| format!("there are: {}", names.join(", ")));
        return Err(Error::env(format!(
            "topic '{name}' does not exist at {}",
            connection.bootstrap_server
        ))
        .with_hint(hint));
    };
    say(format_args!(
        "{:>9}  {:>6}  {:<12}  {:>14}  {:>14}  {:>14}",
        "partition", "leader", "replicas", "first offset", "next offset", "records"
    ))?;
    for p in &topic.partitions {
        let (low, high) = p.offsets.unwrap_or_default();
        let replicas: Vec<String> = p.replicas.iter().map(i32::to_string).collect();
        say(format_args!(
            "{:>9}  {:>6}  {:<12}  {low:>14}  {high:>14}  {:>14}",
            p.id,
            p.leader,
            replicas.join(","),
            high - low
        ))?;
    }
    Ok(())
}
