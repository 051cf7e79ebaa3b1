//! Golden files: `tests/slt/*.slt`, each run over every batch size and worker count.
//!
//! Statements beside SQL: `FEED t PARTITION n [AT ms]` followed by one record a line (`null` is
//! a tombstone), `TICK` (processing-time trigger), `CLOCK 10 s` (time passes), `STALL 10 s` (the next message takes that long),
//! `EXPIRE` (the time-to-live of groups), `END`.
//! Queries beside SQL: `EMITTED q`, `LATE q`, `COUNTS` (late, bad, future).

use crate::support::sim::{Commit, Matrix, Sim, matrix};
use sqllogictest::{DBOutput, DefaultColumnType};
use std::time::Duration;
use windrow::plan::{Settings, Trigger};

const PARTITIONS: i32 = 3;

struct Driver {
    way: Matrix,
    script: String,
    sim: Option<Sim>,
    tables: Vec<String>,
    ticking: bool,
}

#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Failed(String);

impl Driver {
    fn sim(&mut self) -> Result<&mut Sim, Failed> {
        if self.sim.is_none() {
            let trigger = if self.ticking {
                Trigger::Every(Duration::from_secs(1))
            } else {
                Trigger::WindowClose
            };
            let settings = Settings {
                trigger: Some(trigger),
                ..Settings::default()
            };
            let commit = match self.way.restarts {
                true => Commit::TwoPhase,
                false => Commit::AtOnce,
            };
            let sim = Sim::committing(&self.script, self.way, &settings, PARTITIONS, commit);
            self.sim = Some(sim.map_err(failed)?);
        }
        Ok(self.sim.as_mut().unwrap())
    }

    fn feed(&mut self, words: &[&str], lines: &str) -> Result<(), Failed> {
        let number = |w: Option<&&str>| w.and_then(|w| w.parse::<i64>().ok());
        let (table, partition) = (
            words[1].to_string(),
            number(words.get(3)).unwrap_or(0) as i32,
        );
        let at_ms = number(words.get(5)).unwrap_or(-1);
        let records: Vec<_> = lines
            .lines()
            .filter(|l| !l.trim().is_empty())
            .map(|l| ((l.trim() != "null").then(|| l.as_bytes().to_vec()), at_ms))
            .collect();
        if !self.tables.contains(&table) {
            self.tables.push(table.clone());
        }
        self.sim()?.feed(&table, partition, records);
        if self.way.restarts {
            let sim = self.sim()?;
            sim.checkpoint().map_err(failed)?;
            let workers = 1 + (sim.way.workers + 1) % 4;
            sim.crash(workers).map_err(failed)?;
        }
        Ok(())
    }

    fn rows(&mut self, words: &[&str]) -> Result<DBOutput<DefaultColumnType>, Failed> {
        let name = words[1..].join(" ");
        let sim = self.sim()?;
        // With checkpoints rows are seen when one is published.
        sim.checkpoint().map_err(failed)?;
        let rows = if words[0] == "LATE" {
            sim.late(&name)
        } else {
            sim.emitted(&name)
        };
        let text = |v: &serde_json::Value| match v {
            serde_json::Value::String(s) if s.is_empty() => "(empty)".to_string(),
            serde_json::Value::String(s) => s.clone(),
            serde_json::Value::Null => "NULL".to_string(),
            other => other.to_string(),
        };
        let rows: Vec<Vec<String>> = rows.iter().map(|r| r.iter().map(text).collect()).collect();
        Ok(output(rows))
    }
}

fn output(rows: Vec<Vec<String>>) -> DBOutput<DefaultColumnType> {
    let types = vec![DefaultColumnType::Text; rows.first().map_or(1, Vec::len)];
    DBOutput::Rows { types, rows }
}

fn failed(e: windrow::Error) -> Failed {
    let at = match &e {
        windrow::Error::Sql { at: Some(at), .. } => format!(" at {at}"),
        _ => String::new(),
    };
    Failed(format!("{e}{at}; {}", e.hint().unwrap_or_default()))
}

impl sqllogictest::DB for Driver {
    type Error = Failed;
    type ColumnType = DefaultColumnType;

    fn run(&mut self, sql: &str) -> Result<DBOutput<DefaultColumnType>, Failed> {
        let (first, rest) = sql.split_once('\n').unwrap_or((sql, ""));
        let words: Vec<&str> = first.split_whitespace().collect();
        match words[0] {
            "FEED" => self.feed(&words, rest)?,
            "TICKING" => self.ticking = true,
            "TICK" => {
                let sim = self.sim()?;
                sim.settle().map_err(failed)?;
                sim.tick().map_err(failed)?;
            }
            "EXPIRE" => self.sim()?.expire().map_err(failed)?,
            "CLOCK" => {
                let time = windrow::options::parse_duration(&words[1..].join(" ")).unwrap();
                let sim = self.sim()?;
                sim.settle().map_err(failed)?;
                sim.pass(time).map_err(failed)?;
            }
            "STALL" => {
                let time = windrow::options::parse_duration(&words[1..].join(" ")).unwrap();
                self.sim()?.stall(time);
            }
            "END" => {
                let tables = self.tables.clone();
                let names: Vec<&str> = tables.iter().map(String::as_str).collect();
                let sim = self.sim()?;
                sim.end(&names, PARTITIONS);
                sim.settle().map_err(failed)?;
            }
            "EMITTED" | "LATE" => return self.rows(&words),
            "COUNTS" => {
                let sim = self.sim()?;
                sim.settle().map_err(failed)?;
                let counts = sim.counts().map(|c| c.to_string()).to_vec();
                return Ok(output(vec![counts]));
            }
            "CHECK" => {
                // Only plans: for errors.
                windrow::plan::plan_script(
                    &format!("{}\n{rest}", self.script),
                    &|_| None,
                    &Settings::default(),
                )
                .map_err(failed)?;
            }
            _ => {
                self.script.push_str(sql);
                self.script.push_str(";\n");
            }
        }
        Ok(DBOutput::StatementComplete(0))
    }
}

#[test]
fn golden_files() {
    let mut files: Vec<_> = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/slt"))
        .unwrap()
        .map(|f| f.unwrap().path())
        .filter(|p| p.extension().is_some_and(|e| e == "slt"))
        .collect();
    files.sort();
    assert!(files.len() >= 8, "golden files are missing");
    let mut failures = Vec::new();
    for file in &files {
        let text = std::fs::read_to_string(file).unwrap();
        for way in matrix() {
            if way.restarts
                && ["\nCLOCK", "\nSTALL"]
                    .iter()
                    .any(|time| text.contains(time))
            {
                // How long a partition was silent is forgotten by a restart, as it must be.
                continue;
            }
            let mut runner = sqllogictest::Runner::new(|| async {
                Ok(Driver {
                    way,
                    script: String::new(),
                    sim: None,
                    tables: Vec::new(),
                    ticking: false,
                })
            });
            if let Err(e) = runner.run_file(file) {
                failures.push(format!(
                    "{} with {way:?}\n{}",
                    file.display(),
                    e.display(false)
                ));
                break;
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}
