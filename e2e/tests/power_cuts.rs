//! After a power cut or a `kill -9` what the engine called durable is there, and right (P8).

use std::process::Command;

use anyhow::{Result, ensure};

#[test]
fn two_hundred_power_cuts_lose_nothing_durable_and_leave_no_false_claim() -> Result<()> {
    let status =
        Command::new(env!("CARGO_BIN_EXE_e2e-power-cuts")).args(["run", "--cuts", "200"]).status()?;
    ensure!(status.success(), "see the findings above; `cargo xtask power-cuts` runs it again");
    Ok(())
}
