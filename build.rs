//! Link options that make the program smaller.
//!
//! - Identical functions are folded: DataFusion's generics leave many (4 %).
//! - The program is linked to a fixed address, as Go's are: 5 MB of relocations are gone, and the
//!   time to apply them at each start. (Heap, stack and libraries stay where the system puts them
//!   at random.)
//!
//! Only where Rust links with its own LLD, which knows the options.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let target = std::env::var("TARGET").unwrap_or_default();
    let own_linker = std::env::var("RUSTC_LINKER").is_err();
    if target == "x86_64-unknown-linux-gnu" && own_linker {
        println!("cargo:rustc-link-arg-bins=-Wl,--icf=all");
        println!("cargo:rustc-link-arg-bins=-no-pie");
    }
}
