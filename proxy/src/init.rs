//! `aviary-proxy init`: makes the kernel send the pod's connections through the proxy.
//!
//! One nft transaction: the rules are there wholly or not at all, and running it again replaces them. It needs `nft` and NET_ADMIN, and runs
//! before the application starts. Rules are rendered by a pure function and only then applied.

mod rules;

use std::io::{self, Write};
use std::process::{Command, Stdio};

pub use rules::{Cidr, Own, Redirect, render};

#[derive(Debug, thiserror::Error)]
pub enum InitError {
    #[error(
        "cannot run `{nft}`: {source}; the image of `aviary-proxy init` must contain nftables (or set --nft)"
    )]
    Missing { nft: String, source: io::Error },
    #[error(
        "`{nft}` was not allowed to change the rules: {said}; the init container needs `capabilities: {{add: [NET_ADMIN]}}` and must run as root"
    )]
    NotPermitted { nft: String, said: String },
    #[error("`{nft}` refused the rules ({status}): {said}")]
    Refused {
        nft: String,
        status: std::process::ExitStatus,
        said: String,
    },
}

/// Applies the rules in the current network namespace. A kernel that cannot tell which addresses are the pod's own gets rules that do not ask it.
pub fn apply(nft: &str, redirect: &Redirect) -> Result<Own, InitError> {
    let refused = match run(nft, &render(redirect, Own::Asked)) {
        Ok(()) => return Ok(Own::Asked),
        Err(refused @ InitError::Refused { .. }) => refused,
        Err(error) => return Err(error),
    };
    match run(nft, &render(redirect, Own::NotAsked)) {
        Ok(()) => Ok(Own::NotAsked),
        Err(_) => Err(refused),
    }
}

fn run(nft: &str, rules: &str) -> Result<(), InitError> {
    let missing = |source| InitError::Missing {
        nft: nft.to_owned(),
        source,
    };
    let mut child = Command::new(nft)
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(missing)?;
    let written = match child.stdin.take() {
        Some(mut stdin) => stdin.write_all(rules.as_bytes()),
        None => Ok(()),
    };
    let output = child.wait_with_output().map_err(missing)?;
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    if output.status.success() {
        return written.map_err(missing);
    }
    let nft = nft.to_owned();
    if said.contains("Operation not permitted") || said.contains("Permission denied") {
        return Err(InitError::NotPermitted { nft, said });
    }
    Err(InitError::Refused {
        nft,
        status: output.status,
        said,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_nft_is_named_with_a_hint() {
        let error = apply("nft-that-does-not-exist", &Redirect::default())
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("nft-that-does-not-exist") && error.contains("nftables"),
            "{error}"
        );
    }

    #[test]
    fn a_kernel_that_does_not_know_its_addresses_gets_rules_without_them() {
        let folder = std::env::temp_dir().join(format!("aviary-init-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let (written, nft, taken) = (folder.join("sh"), folder.join("nft"), folder.join("taken"));
        let refuses = |what: &str| {
            let script = format!(
                "#!/bin/sh\ncat > {taken}.new; if grep -q '{what}' {taken}.new; then echo No such file >&2; exit 1; fi; mv {taken}.new {taken}\n",
                taken = taken.display()
            );
            std::fs::write(&written, script).unwrap();
            // By another process: what this one has open for writing, a child that another test starts may have open when it is run ("Text file busy").
            let installed = Command::new("install").arg(&written).arg(&nft).status();
            assert!(installed.unwrap().success());
        };
        let apply = || apply(&nft.display().to_string(), &Redirect::default());
        refuses("fib");
        assert_eq!(apply().unwrap(), Own::NotAsked);
        let rules = std::fs::read_to_string(&taken).unwrap();
        assert_eq!(rules, render(&Redirect::default(), Own::NotAsked));
        refuses("redirect");
        let error = apply().unwrap_err().to_string();
        assert!(error.contains("No such file"), "{error}");
        refuses("nothing");
        assert_eq!(apply().unwrap(), Own::Asked);
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_refusal_says_what_nft_said() {
        let error = apply("false", &Redirect::default()).unwrap_err();
        assert!(matches!(error, InitError::Refused { .. }), "{error}");
    }
}
