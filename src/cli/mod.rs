//! The command line: parses, calls, prints errors, chooses the exit code.

pub mod consume;
mod demo;
mod error;
pub mod produce;
mod run;
mod state;
mod status;
pub mod topics;

use crate::error::{Error, Result};
use crate::sink::console::{OUTPUT_CLOSED, output_error};
use clap::{CommandFactory, Parser, Subcommand};
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Exact window results over Kafka, from a SQL file.
#[derive(Parser)]
#[command(name = "windrow", version, about, after_help = EXAMPLES, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "Examples:
  windrow demo --for 10s                          see it work, nothing else needed
  windrow run views.sql                           run until stopped
  windrow run views.sql --until-end --format json read what is there, print JSON rows, end
  windrow run views.sql --set BOOTSTRAP=kafka:9092
  windrow check views.sql                         find mistakes without a broker
  windrow topics create clicks --partitions 4
  windrow produce --topic clicks rows.ndjson
  windrow consume --topic clicks --from-beginning --timeout-ms 5000 --output rows.ndjson";

#[derive(Subcommand)]
enum Command {
    /// Run a SQL file until its sources end or it is stopped.
    Run(run::RunArgs),
    /// Check a SQL file without running it; needs no broker.
    Check(run::FileArgs),
    /// Show what a SQL file would do, stage by stage; needs no broker.
    Explain(run::ExplainArgs),
    /// Show what a folder of checkpoints holds, or query it.
    State(state::StateArgs),
    /// Show what a changed SQL file keeps of a checkpoint's state.
    Plan(state::PlanArgs),
    /// Generated streams through an embedded broker and four live queries.
    Demo(demo::DemoArgs),
    /// List, create and describe Kafka topics.
    Topics(topics::Args),
    /// Write records to a topic, from a file, standard input or a generator.
    Produce(produce::Args),
    /// Read records of a topic to standard output or a file.
    Consume(consume::Args),
    /// Print the completion script of a shell.
    Completions { shell: clap_complete::Shell },
}

/// Runs the program.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(e) => {
            let code = if e.use_stderr() { 2 } else { 0 };
            // Nothing can be done when the terminal is gone.
            let _unprinted = e.print();
            return ExitCode::from(code);
        }
    };
    let stop = Arc::new(AtomicBool::new(false));
    let result = signals(&stop)
        .map_err(Failure::from)
        .and_then(|()| match cli.command {
            Command::Run(args) => run::run(&args, stop),
            Command::Check(args) => run::check(&args),
            Command::Explain(args) => run::explain(&args),
            Command::State(args) => state::state(&args),
            Command::Plan(args) => state::compare(&args),
            Command::Demo(args) => demo::run(&args, stop).map_err(Failure::from),
            Command::Topics(args) => log_to_stderr()
                .and_then(|()| topics::run(args, &stop))
                .map_err(Failure::from),
            Command::Produce(args) => log_to_stderr()
                .and_then(|()| produce::run(args, &stop))
                .map_err(Failure::from),
            Command::Consume(args) => log_to_stderr()
                .and_then(|()| consume::run(args, &stop))
                .map_err(Failure::from),
            Command::Completions { shell } => {
                let mut text = Vec::new();
                clap_complete::generate(shell, &mut Cli::command(), "windrow", &mut text);
                let written = std::io::stdout().write_all(&text);
                written.map_err(|e| Failure::from(output_error(e)))
            }
        });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        // A reader like `head` that has seen enough is no failure.
        Err(Failure {
            error: Error::Environment { message, .. },
            ..
        }) if message == OUTPUT_CLOSED => ExitCode::SUCCESS,
        Err(failure) => {
            let source = failure
                .source
                .as_ref()
                .map(|(path, text)| (path.as_path(), text.as_str()));
            // Nobody listens, or the log's disk is full: the exit code tells.
            let _unheard = writeln!(std::io::stderr(), "{}", error::text(&failure.error, source));
            ExitCode::from(failure.error.exit_code())
        }
    }
}

/// An error, and the SQL file that it may point into.
pub struct Failure {
    pub error: Error,
    pub source: Option<(PathBuf, String)>,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure {
            error,
            source: None,
        }
    }
}

/// The first signal stops in order, the second at once.
fn signals(stop: &Arc<AtomicBool>) -> Result<()> {
    use signal_hook::consts::{SIGINT, SIGTERM};
    let failed = |e: std::io::Error| Error::env(format!("cannot handle signals: {e}"));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register_conditional_shutdown(signal, 130, stop.clone())
            .map_err(failed)?;
        signal_hook::flag::register(signal, stop.clone()).map_err(failed)?;
    }
    debug_assert!(!stop.load(Ordering::Relaxed));
    Ok(())
}

/// Prints a line. Nobody may be listening any more (`| head`), or the disk may be full: `println!`
/// would panic.
fn say(text: impl std::fmt::Display) -> Result<()> {
    writeln!(std::io::stdout(), "{text}").map_err(output_error)
}

fn log_to_stderr() -> Result<()> {
    status::log(None)
}
