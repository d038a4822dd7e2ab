//! The modules of `tests/modules`: packages of their own, built when the first test of a process asks for one.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Builds a package of `tests/modules`, if it is not built yet; the library.
pub fn build(package: &str, library: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let target = test.ancestors().nth(3).unwrap().join("modules");
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/modules")
        .join(package)
        .join("Cargo.toml");
    let built = Command::new(env!("CARGO"))
        .args(["build", "--locked", "--quiet", "--manifest-path"])
        .arg(manifest)
        .arg("--target-dir")
        .arg(&target)
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&built.stderr);
    assert!(built.status.success(), "{told}");
    target.join("debug").join(library)
}
