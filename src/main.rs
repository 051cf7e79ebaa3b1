use std::process::ExitCode;

/// The engine's batches are short-lived and cross threads: see ARCHITECTURE.md for the figures.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    windrow::cli::main()
}
