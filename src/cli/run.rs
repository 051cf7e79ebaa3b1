//! `windrow run`, `check` and `explain`.

use super::status::{self, Aside, Status, Watched, Writing};
use super::{Failure, say};
use crate::error::{Error, Result};
use crate::plan::{
    Job, Settings, explain, parse_memory, parse_output_mode, parse_trigger, plan_script,
};
use crate::run::sinks::{self, Format, Output};
use crate::run::{RunOptions, run as run_job};
use crate::time::{Clock, SystemClock};
use clap::Args;
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

#[derive(Args)]
pub struct FileArgs {
    /// The SQL file; - is standard input.
    pub file: PathBuf,
    /// Value of ${NAME} in the file; wins over the environment.
    #[arg(long = "set", value_name = "NAME=VALUE")]
    pub set: Vec<String>,
}

#[derive(Args)]
pub struct ExplainArgs {
    /// The SQL file; - is standard input.
    #[arg(required_unless_present = "options")]
    pub file: Option<PathBuf>,
    /// Value of ${NAME} in the file; wins over the environment.
    #[arg(long = "set", value_name = "NAME=VALUE")]
    pub set: Vec<String>,
    /// List every option of CREATE TABLE … WITH instead.
    #[arg(long)]
    pub options: bool,
}

#[derive(Args)]
pub struct RunArgs {
    #[command(flatten)]
    pub file: FileArgs,
    /// Read to the end of what is there now, write all results, and end.
    #[arg(long)]
    pub until_end: bool,
    /// Worker threads [default: cores, at most one for each partition].
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub workers: Option<u16>,
    /// append, update or complete [default: append with a window, else update].
    #[arg(long, value_name = "MODE")]
    pub output_mode: Option<String>,
    /// When results are written: '10 seconds', available-now or window-close.
    #[arg(long)]
    pub trigger: Option<String>,
    /// Folder of checkpoints, or a URL like s3://bucket/folder: the run goes on from the last one,
    /// and leaves its own.
    #[arg(long, value_name = "DIR")]
    pub checkpoint: Option<PathBuf>,
    /// Memory for state, e.g. 1g; what is beyond goes to disk [default: half of the machine's].
    #[arg(long, value_name = "SIZE")]
    pub memory: Option<String>,
    /// Go on from a checkpoint even where the changed file loses state.
    #[arg(long)]
    pub accept_changes: bool,
    /// How a bare SELECT prints.
    #[arg(long, value_enum, default_value_t = FormatArg::Table)]
    pub format: FormatArg,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub enum FormatArg {
    Table,
    Json,
    Csv,
}

impl From<FormatArg> for Format {
    fn from(f: FormatArg) -> Self {
        match f {
            FormatArg::Table => Format::Table,
            FormatArg::Json => Format::Json,
            FormatArg::Csv => Format::Csv,
        }
    }
}

pub fn run(args: &RunArgs, stop: Arc<AtomicBool>) -> Result<(), Failure> {
    let usage = |what: &str, value: &str, expected: &str| {
        Error::Usage(format!("'{value}' is no {what}: it is {expected}"))
    };
    let output_mode = match &args.output_mode {
        None => None,
        Some(m) => Some(
            parse_output_mode(m)
                .ok_or_else(|| usage("output mode", m, "append, update or complete"))?,
        ),
    };
    let trigger = match &args.trigger {
        None => None,
        Some(t) => Some(parse_trigger(t).ok_or_else(|| {
            usage(
                "trigger",
                t,
                "a time like '10 seconds', available-now or window-close",
            )
        })?),
    };
    let memory = match &args.memory {
        None => None,
        Some(m) => Some(
            parse_memory(m).ok_or_else(|| usage("size", m, "at least 1mb, like 512mb or 1g"))?,
        ),
    };
    let settings = Settings {
        memory,
        output_mode,
        trigger,
        workers: args.workers.map(usize::from),
        until_end: args.until_end,
        checkpoint_dir: (args.checkpoint.as_ref()).map(|dir| dir.to_string_lossy().into_owned()),
        accept_changes: args.accept_changes,
        ..Settings::default()
    };
    let bar = status::bar();
    status::log(bar.clone())?;
    let source = read(&args.file.file)?;
    let result = plan(&source, &args.file, &settings).and_then(|job| {
        for notice in &job.settings.notices {
            tracing::warn!("{notice}");
        }
        for text in &job.explained {
            match job.queries.is_empty() || matches!(args.format, FormatArg::Table) {
                true => say(text)?,
                // Whoever reads standard output reads rows.
                false => tracing::info!("{text}"),
            }
        }
        if job.queries.is_empty() {
            if job.explained.is_empty() {
                tracing::warn!("the file holds no SELECT and no INSERT: there is nothing to run");
            }
            return Ok(());
        }
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
        let writing = Writing::default();
        let (stdout_bar, told, stamps) = (bar.clone(), writing.clone(), clock.clone());
        let output: Output = Arc::new(move || {
            let stdout = Watched::new(std::io::stdout(), told.clone(), stamps.clone());
            Box::new(BufWriter::new(Aside::new(stdout_bar.clone(), stdout)))
        });
        let options = RunOptions {
            format: args.format.into(),
            output,
            clock: clock.clone(),
            stop,
        };
        let mut status = Status::new(bar.clone(), clock, writing);
        let summary = run_job(job, &options, &mut status)?;
        status.finish(&summary);
        Ok(())
    });
    if let Some(bar) = &bar {
        bar.finish_and_clear();
    }
    positioned(result, &args.file.file, &source)
}

pub fn check(args: &FileArgs) -> Result<(), Failure> {
    let source = read(&args.file)?;
    let result = plan(&source, args, &Settings::default()).and_then(|job| {
        sinks::check(&job)?;
        let count = |n: usize, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
        let queries = if job.queries.len() == 1 {
            "1 query".into()
        } else {
            format!("{} queries", job.queries.len())
        };
        say(format_args!(
            "{}: ok, {} over {}",
            args.file.display(),
            queries,
            count(job.sources.len(), "source")
        ))
    });
    positioned(result, &args.file, &source)
}

pub fn explain(args: &ExplainArgs) -> Result<(), Failure> {
    if args.options {
        for def in crate::options::OPTIONS {
            let alias = def
                .alias
                .map(|a| format!(" (also {a})"))
                .unwrap_or_default();
            say(format_args!(
                "{}{alias}\n    {}; {}\n    connectors: {}",
                def.name,
                def.doc,
                def.values,
                def.connectors.replace(' ', ", ")
            ))?;
        }
        return Ok(());
    }
    let Some(file) = args.file.clone() else {
        return Err(Error::Usage("a file is missing".into()).into());
    };
    let args = FileArgs {
        file,
        set: args.set.clone(),
    };
    let source = read(&args.file)?;
    let result = plan(&source, &args, &Settings::default())
        .and_then(|job| say(explain::job_text(&job).trim_end_matches('\n')));
    positioned(result, &args.file, &source)
}

pub(super) fn plan(source: &str, args: &FileArgs, settings: &Settings) -> Result<Job> {
    let mut variables = Vec::new();
    for pair in &args.set {
        match pair.split_once('=') {
            Some((name, value)) => variables.push((name.to_string(), value.to_string())),
            None => return Err(Error::Usage(format!("--set {pair}: expected NAME=VALUE"))),
        }
    }
    let variable = |name: &str| {
        let set = variables
            .iter()
            .rev()
            .find(|(n, _)| n == name)
            .map(|(_, v)| v.clone());
        set.or_else(|| std::env::var(name).ok())
    };
    plan_script(source, &variable, settings)
}

pub(super) fn read(path: &Path) -> Result<String> {
    let text = if path == Path::new("-") {
        std::io::read_to_string(std::io::stdin())
    } else {
        std::fs::read_to_string(path)
    };
    text.map_err(|e| Error::Usage(format!("cannot read {}: {e}", path.display())))
}

/// Keeps the SQL file with an error, so that its line can be shown.
pub(super) fn positioned(result: Result<()>, path: &Path, source: &str) -> Result<(), Failure> {
    result.map_err(|error| Failure {
        error,
        source: Some((path.to_path_buf(), source.to_string())),
    })
}
