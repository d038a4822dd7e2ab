//! What a seed does: how big the world is, which faults there are and how often, and what happens at which time. The big
//! things are a list, so that shrinking can take one away at a time.

use std::collections::{BTreeMap, BTreeSet};

use lockstep::model::capabilities::Strategy;
use lockstep::model::lifecycle::Action;

use crate::dice::Dice;

/// Kinds of faults. Each can be switched off alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Class {
    Drop,
    Duplicate,
    Reorder,
    Delay,
    HintLost,
    ReplyLost,
    CallLost,
    CommitFails,
    TokenFails,
    TokenUnknown,
    TokenMisses,
    TokenKeeps,
    TokenKilled,
    TokenSlow,
    JournalFails,
    TornTail,
}

impl Class {
    pub(crate) const ALL: [Self; 16] = [
        Self::Drop,
        Self::Duplicate,
        Self::Reorder,
        Self::Delay,
        Self::HintLost,
        Self::ReplyLost,
        Self::CallLost,
        Self::CommitFails,
        Self::TokenFails,
        Self::TokenUnknown,
        Self::TokenMisses,
        Self::TokenKeeps,
        Self::TokenKilled,
        Self::TokenSlow,
        Self::JournalFails,
        Self::TornTail,
    ];
}

/// What people ask for. `key` is the n-th key that was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Request {
    Create { key: usize, pair: bool },
    Act { key: usize, action: Action },
    Assign { key: usize, keystore: usize },
    Unassign { key: usize, keystore: usize },
    Sync { key: usize },
    Rename { key: usize, name: u64 },
}

/// What somebody does at a token, past everybody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tampering {
    Enable,
    Disable,
    Destroy,
    HalfDestroyed,
    Duplicate,
    Rename,
    ChangeId,
    Swap,
    Reinitialise,
}

/// A big thing that happens once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Happening {
    Ask(Request),
    AgentCrashes {
        agent: usize,
        down_ms: u64,
        host_finishes: bool,
    },
    CoordinatorCrashes {
        which: usize,
        down_ms: u64,
    },
    LineBreaks {
        agent: usize,
        agent_hears: bool,
        coordinator_hears: bool,
    },
    Partition {
        agent: usize,
        down: bool,
        up: bool,
        for_ms: u64,
    },
    JournalDiskFull {
        agent: usize,
        for_ms: u64,
    },
    StoreDiskFull {
        for_ms: u64,
    },
    TokenIsSlow {
        agent: usize,
        for_ms: u64,
    },
    Tampered {
        agent: usize,
        tampering: Tampering,
        which: u64,
    },
    Backup,
    Restore {
        down_ms: u64,
    },
    SecondCoordinator,
    ClockJumps {
        agent: Option<usize>,
        by_ms: i64,
    },
    JournalLost {
        agent: usize,
    },
}

/// A whole run.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    /// Keystore 0 is internal and holds the repository; it is a target too.
    pub(crate) keystores: usize,
    pub(crate) strategy: Strategy,
    /// Most objects of one slice of a scan.
    pub(crate) slice: Option<usize>,
    /// Per mille per occasion.
    pub(crate) rates: BTreeMap<Class, u64>,
    pub(crate) script: Vec<(u64, Happening)>,
    /// When faults stop, milliseconds.
    pub(crate) chaos_ms: u64,
}

impl Plan {
    /// The plan of a seed.
    pub(crate) fn of(seed: u64) -> Self {
        let mut dice = Dice::new(seed, "plan");
        let keystores = 2 + dice.index(2);
        let chaos_ms = dice.between(30_000, 70_000);
        let strategy = match dice.below(8) {
            0 => Strategy::Withdraw,
            1 => Strategy::Copy,
            _ => Strategy::Flags,
        };
        let slice = dice.chance(400).then(|| 1 + dice.index(4));
        let mut rates = BTreeMap::new();
        for class in Class::ALL {
            if dice.chance(400) {
                rates.insert(class, dice.between(10, 200));
            }
        }
        let mut script = asks(&mut Dice::new(seed, "asks"), keystores, chaos_ms);
        script.extend(blows(&mut Dice::new(seed, "blows"), keystores, chaos_ms));
        script.sort_by_key(|(at, _)| *at);
        Self {
            seed,
            keystores,
            strategy,
            slice,
            rates,
            script,
            chaos_ms,
        }
    }

    /// How often a fault of a class comes, per mille.
    pub(crate) fn rate(&self, class: Class) -> u64 {
        self.rates.get(&class).copied().unwrap_or(0)
    }
}

fn asks(dice: &mut Dice, keystores: usize, chaos_ms: u64) -> Vec<(u64, Happening)> {
    let keys = 1 + dice.index(4);
    let mut script = Vec::new();
    for key in 0..keys {
        let at = 2_000 + dice.below(chaos_ms / 3);
        script.push((
            at,
            Happening::Ask(Request::Create {
                key,
                pair: dice.chance(400),
            }),
        ));
        if dice.chance(700) {
            let action = Action::Activate;
            script.push((
                at + dice.between(500, 8_000),
                Happening::Ask(Request::Act { key, action }),
            ));
        }
    }
    for _ in 0..dice.between(4, 18) {
        let key = dice.index(keys);
        let keystore = dice.index(keystores);
        let request = match dice.below(20) {
            0..=5 => Request::Act {
                key,
                action: Action::Activate,
            },
            6..=10 => Request::Act {
                key,
                action: Action::Deactivate,
            },
            11 => Request::Act {
                key,
                action: Action::Compromise,
            },
            12 | 13 => Request::Act {
                key,
                action: Action::Destroy,
            },
            14 => Request::Assign { key, keystore },
            15 | 16 => Request::Unassign { key, keystore },
            17 | 18 => Request::Sync { key },
            _ => Request::Rename {
                key,
                name: dice.below(3),
            },
        };
        let at = dice.between(chaos_ms / 8, chaos_ms);
        // Some come in one breath: the newer one meets the older one under way.
        script.push((at, Happening::Ask(request)));
        if dice.chance(250) {
            let action = if dice.chance(500) {
                Action::Activate
            } else {
                Action::Deactivate
            };
            script.push((
                at + dice.below(400),
                Happening::Ask(Request::Act { key, action }),
            ));
        }
    }
    script
}

#[expect(clippy::too_many_lines, reason = "a table of what may happen")]
fn blows(dice: &mut Dice, keystores: usize, chaos_ms: u64) -> Vec<(u64, Happening)> {
    let kinds: BTreeSet<u64> = (0..12).filter(|_| dice.chance(350)).collect();
    let mut script = Vec::new();
    let end = chaos_ms;
    for kind in kinds {
        for _ in 0..dice.between(1, 3) {
            let at = dice.between(3_000, end);
            let agent = dice.index(keystores);
            let long = dice.between(300, 25_000);
            let (yes, no) = (dice.chance(500), dice.chance(500));
            script.push((
                at,
                match kind {
                    0 | 1 => Happening::AgentCrashes {
                        agent,
                        down_ms: long / 4,
                        host_finishes: yes,
                    },
                    2 => Happening::CoordinatorCrashes {
                        which: 0,
                        down_ms: long / 4,
                    },
                    3 => Happening::LineBreaks {
                        agent,
                        agent_hears: yes,
                        coordinator_hears: no,
                    },
                    4 => Happening::Partition {
                        agent,
                        down: true,
                        up: true,
                        for_ms: long,
                    },
                    5 => Happening::Partition {
                        agent,
                        down: yes,
                        up: !yes,
                        for_ms: long,
                    },
                    6 => Happening::JournalDiskFull {
                        agent,
                        for_ms: long / 2,
                    },
                    7 => Happening::StoreDiskFull { for_ms: long / 4 },
                    8 => Happening::TokenIsSlow {
                        agent,
                        for_ms: long,
                    },
                    9 | 10 => Happening::Tampered {
                        agent,
                        tampering: tampering(dice),
                        which: dice.below(64),
                    },
                    _ => {
                        let days = i64::try_from(dice.below(3)).unwrap_or(1) - 1;
                        Happening::ClockJumps {
                            agent: yes.then_some(agent),
                            by_ms: days * 86_400_000 + 3_600_000,
                        }
                    }
                },
            ));
        }
    }
    // What rewrites the past comes alone.
    match dice.below(8) {
        0 | 1 => {
            let at = dice.between(end / 5, end * 3 / 4);
            script.push((at, Happening::Backup));
            let then = at + dice.between(2_000, end / 2);
            if dice.chance(500) {
                // What was taken back since is wanted again.
                let agent = dice.index(keystores);
                script.push((
                    at + 300,
                    Happening::Ask(Request::Act {
                        key: 0,
                        action: Action::Deactivate,
                    }),
                ));
                script.push((
                    at + 800,
                    Happening::Ask(Request::Act {
                        key: 0,
                        action: Action::Destroy,
                    }),
                ));
                script.push((
                    then - 500,
                    Happening::AgentCrashes {
                        agent,
                        down_ms: 300,
                        host_finishes: true,
                    },
                ));
            }
            script.push((
                then,
                Happening::Restore {
                    down_ms: dice.between(200, 4_000),
                },
            ));
        }
        2 => {
            let at = dice.between(end / 5, end * 3 / 4);
            script.push((at, Happening::Backup));
            script.push((
                at + dice.between(1_000, end / 3),
                Happening::SecondCoordinator,
            ));
        }
        3 => script.push((
            dice.between(end / 4, end),
            Happening::JournalLost {
                agent: dice.index(keystores),
            },
        )),
        _ => {}
    }
    script
}

fn tampering(dice: &mut Dice) -> Tampering {
    match dice.below(20) {
        0..=3 => Tampering::Enable,
        4..=6 => Tampering::Disable,
        7..=9 => Tampering::Destroy,
        10 => Tampering::HalfDestroyed,
        11 | 12 => Tampering::Duplicate,
        13 | 14 => Tampering::Rename,
        15 => Tampering::ChangeId,
        16..=18 => Tampering::Swap,
        _ => Tampering::Reinitialise,
    }
}
