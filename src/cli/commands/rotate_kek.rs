//! `lockstep keystore rotate-kek`: a new wrapping key for an internal keystore.

use std::time::Duration;

use crate::cli::client::{Change, Verb};
use crate::cli::context::Context;
use crate::cli::exit::Exit;
use crate::cli::wait::Pace;
use crate::rest::kek::{KekRotation, KekRotationState};

/// Asks for a rotation, or only shows how far the last one is; waits for its end, if that is wanted. Exits with 75 while it is
/// under way.
///
/// # Errors
/// A refusal, or whatever stands in the way of asking.
pub fn rotate_kek(
    id: &str,
    only_show: bool,
    limit: Option<Duration>,
    context: &mut Context<'_, '_>,
) -> anyhow::Result<Exit> {
    let path = format!("/api/lockstep/v1/keystores/{id}/kek_rotation");
    let mut rotation: KekRotation = if only_show {
        context.client.one(&path)?.value
    } else {
        let change = Change::default();
        context.client.change(Verb::Post, &path, &change)?.value
    };
    if let Some(limit) = limit {
        let mut pace = Pace::new(limit);
        let mut said = String::new();
        while is_under_way(&rotation) {
            let now = sentence(&rotation);
            if now != said {
                context.note(&format!("  {now}"))?;
                said = now;
            }
            if !pace.pause() {
                break;
            }
            rotation = context.client.one(&path)?.value;
        }
    }
    context.show(&rotation, sentence)?;
    Ok(if is_under_way(&rotation) {
        Exit::NotYet
    } else {
        Exit::Done
    })
}

const fn is_under_way(rotation: &KekRotation) -> bool {
    match rotation.state {
        KekRotationState::Asked | KekRotationState::Rewrapping => true,
        KekRotationState::None | KekRotationState::Done => false,
    }
}

fn sentence(rotation: &KekRotation) -> String {
    let name = &rotation.keystore.name;
    let kek = rotation.kek.unwrap_or_default();
    let (rewrapped, total) = (rotation.rewrapped, rotation.total);
    let mut sentence = match rotation.state {
        KekRotationState::None => format!("{name}: the wrapping key was never rotated"),
        KekRotationState::Asked => format!("{name}: a new wrapping key was asked for"),
        KekRotationState::Rewrapping => {
            format!("{name}: {rewrapped} of {total} re-wrapped under wrapping key {kek}")
        }
        KekRotationState::Done => format!(
            "{name}: {total} of {total} re-wrapped under wrapping key {kek}, done {}; the older one was destroyed. \
             Backups of the store from before cannot be opened any more: take a new one",
            rotation.done_at
        ),
    };
    if !rotation.waiting_for.is_empty() {
        sentence = format!("{sentence}; waiting: {}", rotation.waiting_for);
    }
    sentence
}

#[cfg(test)]
mod tests {
    use crate::cli::commands::rotate_kek::sentence;
    use crate::rest::kek::{KekRotation, KekRotationState};
    use crate::rest::status::KeystoreRef;

    #[test]
    fn says_how_far_it_is_and_what_it_waits_for() {
        let rotation = KekRotation {
            keystore: KeystoreRef {
                id: String::new(),
                name: "home".to_owned(),
                kind: "pkcs11".to_owned(),
                href: String::new(),
            },
            state: KekRotationState::Rewrapping,
            kek: Some(2),
            rewrapped: 3,
            total: 10,
            asked_at: String::new(),
            done_at: String::new(),
            waiting_for: "agent not reachable".to_owned(),
        };
        assert_eq!(
            sentence(&rotation),
            "home: 3 of 10 re-wrapped under wrapping key 2; waiting: agent not reachable"
        );
        let asked = KekRotation {
            state: KekRotationState::Asked,
            waiting_for: String::new(),
            ..rotation
        };
        assert_eq!(sentence(&asked), "home: a new wrapping key was asked for");
    }
}
