//! The baseline of the benchmark: one AES key enabled on several tokens, one after the other.

use std::time::{Duration, Instant};

use anyhow::bail;
use cryptoki::mechanism::Mechanism;
use cryptoki::session::Session;

use crate::args::{At, Class, Cli, Usage};
use crate::objects::one;
use crate::{load, open};

pub(crate) fn bare_loop(
    cli: &Cli,
    at: &At,
    tokens: &[String],
    rounds: usize,
) -> anyhow::Result<()> {
    if tokens.is_empty() || rounds == 0 {
        bail!("bare-loop needs --tokens and --rounds");
    }
    let mut cold = Vec::new();
    for _round in 0..rounds.min(10) {
        each(cli, at, tokens, disable)?;
        cold.push(each(cli, at, tokens, enable_and_try)?);
    }
    report("cold (load, log in, find, set, try)", tokens.len(), cold);

    let module = load(cli)?;
    let sessions = tokens
        .iter()
        .map(|token| open(&module, cli, token))
        .collect::<Result<Vec<_>, _>>()?;
    let mut warm = Vec::new();
    for _round in 0..rounds {
        for session in &sessions {
            disable(session, at)?;
        }
        let start = now();
        for session in &sessions {
            enable_and_try(session, at)?;
        }
        warm.push(start.elapsed());
    }
    report("warm (find, set, try)", tokens.len(), warm);
    Ok(())
}

/// From nothing to nothing: load, log in to all tokens, act, finalize.
fn each(
    cli: &Cli,
    at: &At,
    tokens: &[String],
    act: fn(&Session, &At) -> anyhow::Result<()>,
) -> anyhow::Result<Duration> {
    let start = now();
    let module = load(cli)?;
    for token in tokens {
        act(&open(&module, cli, token)?, at)?;
    }
    let took = start.elapsed();
    module.finalize()?;
    Ok(took)
}

const AES_USAGE: [Usage; 2] = [Usage::Encrypt, Usage::Decrypt];

fn disable(session: &Session, at: &At) -> anyhow::Result<()> {
    let key = one(session, at, &[Class::Secret])?;
    let off = AES_USAGE.map(|usage| usage.attribute(false));
    Ok(session.update_attributes(key, &off)?)
}

fn enable_and_try(session: &Session, at: &At) -> anyhow::Result<()> {
    let key = one(session, at, &[Class::Secret])?;
    let on = AES_USAGE.map(|usage| usage.attribute(true));
    session.update_attributes(key, &on)?;
    let _block = session.encrypt(&Mechanism::AesEcb, key, &[0; 16])?;
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "a stopwatch in a program apart")]
fn now() -> Instant {
    Instant::now()
}

fn report(what: &str, tokens: usize, mut times: Vec<Duration>) {
    times.sort_unstable();
    let at = |percent: usize| {
        let index = times.len().saturating_sub(1) * percent / 100;
        times
            .get(index)
            .map_or(0.0, |time| time.as_secs_f64() * 1000.0)
    };
    println!(
        "bare loop over {tokens} tokens, {what}: p50 {:.2} ms, p95 {:.2} ms, {} rounds",
        at(50),
        at(95),
        times.len()
    );
}
