use std::process::ExitCode;

/// The engine's batches are short-lived and cross threads: see ARCHITECTURE.md for the figures.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// `mi_option_purge_delay` in mimalloc's list of options.
const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;
/// Freed memory goes back to the system after so long (milliseconds). Sooner, state that is spilled
/// costs a fifth more CPU; with the default of a second 30 MB more of a run stay in memory.
const PURGE_DELAY_MS: std::ffi::c_long = 50;

fn main() -> ExitCode {
    // SAFETY: sets one integer of the allocator's options, before any other thread exists.
    unsafe { libmimalloc_sys::mi_option_set(PURGE_DELAY, PURGE_DELAY_MS) };
    small_pages();
    windrow::cli::main()
}

/// A huge page is cleared and counted whole when its first byte is touched: a quarter of a run's
/// memory for no less CPU. The allocator has asked for such pages before `main`; this overrules it.
fn small_pages() {
    #[cfg(target_os = "linux")]
    // SAFETY: sets one flag of this process; no pointer is passed. (Where it fails all is as before.)
    unsafe {
        let [disable, unused]: [libc::c_ulong; 2] = [1, 0];
        libc::prctl(libc::PR_SET_THP_DISABLE, disable, unused, unused, unused);
    }
}
