//! What a token can do, as its agent found by trying (design.md 7): never what the token claims.

use serde::{Deserialize, Serialize};

use crate::model::desired::{ObjectPlan, Want};
use crate::model::key::{Algorithm, KeySpec, Usage, UsageSet};
use crate::model::keystore::{OaepHash, Routes, Wrapping};
use crate::model::observed::ObjectClass;
use crate::model::text::{LABEL_CHARS_MAX, Label};

/// Version of the trials. A report of another version is not compared with ours.
pub const TRIALS: u32 = 4;

/// Most mechanism numbers that are kept of a token.
pub const MECHANISMS_MAX: usize = 2_048;

/// What of a token was found to work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capabilities {
    /// Version of the trials that this comes from.
    pub trials: u32,
    /// The mechanism numbers that the token lists, ascending. For people: nothing is decided by them.
    pub mechanisms: Vec<u64>,
    /// The mechanism number that is RFC 5649 here (0x210A or 0x210B), found by wrap, unwrap and compare.
    pub rfc5649: Option<u64>,
    /// Whether CKM_AES_CBC_PAD unwraps what another wraps so.
    pub cbc_pad: bool,
    /// The hashes that RSA-OAEP unwrapping takes, the best first.
    pub oaep_hashes: Vec<OaepHash>,
    /// Whether CKA_COPYABLE=false can be given and is honoured.
    pub copyable: bool,
    /// Whether CKA_MODIFIABLE=false can be given and is honoured.
    pub modifiable: bool,
    /// Whether a key with CKA_EXTRACTABLE=false is not wrapped; `None` where it could not be tried.
    pub unextractable: Option<bool>,
    /// Whether C_DigestKey works on sensitive disabled secret keys.
    pub digest_key: bool,
    /// Whether C_CopyObject makes a second token object with the attributes asked for.
    pub copy: bool,
    /// Whether it makes one with other usages of an object that cannot be changed (CKA_MODIFIABLE=false).
    pub copy_fixed: bool,
    /// What a second key with the same CKA_ID and label does.
    pub duplicates: Duplicates,
    /// Whether a C_SetAttributeValue of which one attribute is refused changes none.
    pub atomic_set: bool,
    /// PKCS#11 sessions that could be open at once, tried up to [`SESSIONS_TRIED`].
    pub sessions: u32,
    /// Longest label that reads back exactly as it was given, characters, tried up to [`LABEL_CHARS_MAX`] with every character
    /// that labels may hold; 0: not tried.
    #[serde(default)]
    pub label_chars: u32,
    /// By algorithm, those that can be made.
    pub kinds: Vec<KindCapabilities>,
}

/// How many PKCS#11 sessions a probe opens at most.
pub const SESSIONS_TRIED: u32 = 16;

/// [`LABEL_CHARS_MAX`], as a number of trials.
#[expect(clippy::as_conversions, reason = "255, in a constant")]
pub const LABEL_TRIED: u32 = LABEL_CHARS_MAX as u32;

/// What a second object with the CKA_ID, class and label of another does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Duplicates {
    /// Both are there.
    Allowed,
    /// It is refused.
    Refused,
    /// The first is gone without a word.
    Overwrites,
}

impl Duplicates {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Allowed, Self::Refused, Self::Overwrites];

    /// The name in API and CLI.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Refused => "refused",
            Self::Overwrites => "overwrites",
        }
    }
}

/// What works for keys of one algorithm.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KindCapabilities {
    /// Which.
    pub algorithm: Algorithm,
    /// Sizes in bits that were made; of RSA only 2048 is made, for larger ones the token is believed.
    pub sizes: Vec<u32>,
    /// Whether C_UnwrapKey gives what was asked for.
    pub unwrap: Unwrap,
    /// What setting each usage attribute does.
    pub usages: Vec<UsageTrial>,
}

/// Whether a key can be installed with its usage off, sensitive and not extractable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unwrap {
    /// C_UnwrapKey makes it so: straight to the token.
    Honest,
    /// C_UnwrapKey makes something else, which can be put right on a session object and copied to the token.
    Staged,
    /// Neither, or no mechanism unwraps such keys.
    Impossible,
}

impl Unwrap {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Honest, Self::Staged, Self::Impossible];

    /// The name in API and CLI.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Honest => "honest",
            Self::Staged => "staged",
            Self::Impossible => "impossible",
        }
    }
}

/// What switching one usage off did on a scratch key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsageTrial {
    /// On which object.
    pub class: ObjectClass,
    /// Which usage.
    pub usage: Usage,
    /// What came of it.
    pub change: FlagChange,
    /// What the operation answered with the usage off, such as `CKR_KEY_FUNCTION_NOT_PERMITTED`; empty if not tried.
    pub answer: String,
}

impl UsageTrial {
    fn best(class: ObjectClass) -> Vec<Self> {
        let of = |usage| Self {
            class,
            usage,
            change: FlagChange::Enforced,
            answer: "CKR_KEY_FUNCTION_NOT_PERMITTED".to_owned(),
        };
        UsageSet::of(&Usage::ALL)
            .for_class(class)
            .iter()
            .map(of)
            .collect()
    }
}

/// What became of a usage attribute that was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FlagChange {
    /// The operation worked before and was refused after.
    Enforced,
    /// It reads back as set; there is no operation to try it by.
    ReadBack,
    /// It reads back as set, and the operation works all the same.
    #[serde(rename = "accepted_not_enforced")]
    NotEnforced,
    /// The token did not change it.
    Refused,
}

impl FlagChange {
    /// All of them.
    pub const ALL: [Self; 4] = [
        Self::Enforced,
        Self::ReadBack,
        Self::NotEnforced,
        Self::Refused,
    ];

    /// The name in API and CLI.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Enforced => "enforced",
            Self::ReadBack => "read_back",
            Self::NotEnforced => "accepted_not_enforced",
            Self::Refused => "refused",
        }
    }

    /// Whether the attribute can be relied on to bar the operation.
    #[must_use]
    pub const fn holds(self) -> bool {
        matches!(self, Self::Enforced | Self::ReadBack)
    }
}

/// How a key is enabled and disabled on a token (design.md 5).
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// The usage attributes are set.
    #[default]
    Flags,
    /// A copy with other attributes takes the place of the object.
    Copy,
    /// Destroyed when disabled, installed from the repository when enabled.
    Withdraw,
}

impl Strategy {
    /// All of them, the weakest first.
    pub const ALL: [Self; 3] = [Self::Flags, Self::Copy, Self::Withdraw];

    /// The strategy of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.name() == name)
    }

    /// The name in API and CLI.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Flags => "flags",
            Self::Copy => "copy",
            Self::Withdraw => "withdraw",
        }
    }
}

impl Capabilities {
    /// A token on which everything works, with RFC 5649 under the standard's number: the in-memory token is one.
    #[must_use]
    pub fn best() -> Self {
        Self {
            trials: TRIALS,
            mechanisms: Vec::new(),
            rfc5649: Some(0x210B),
            cbc_pad: true,
            oaep_hashes: OaepHash::ALL.to_vec(),
            copyable: true,
            modifiable: true,
            unextractable: Some(true),
            digest_key: true,
            copy: true,
            copy_fixed: true,
            duplicates: Duplicates::Allowed,
            atomic_set: true,
            sessions: SESSIONS_TRIED,
            label_chars: LABEL_TRIED,
            kinds: KindCapabilities::best(),
        }
    }

    /// What is known of an algorithm; nothing: the token makes no such keys.
    #[must_use]
    pub fn kind(&self, algorithm: Algorithm) -> Option<&KindCapabilities> {
        self.kinds.iter().find(|kind| kind.algorithm == algorithm)
    }

    /// How keys may be wrapped for the token's transport key, the best first. That it opens an AES key by RSA-OAEP is what
    /// every trial begins with.
    #[must_use]
    pub fn routes(&self) -> Routes {
        let works = |wrapping: &Wrapping| match wrapping {
            Wrapping::Rfc5649 => self.rfc5649.is_some(),
            Wrapping::CbcPad => self.cbc_pad,
            Wrapping::Direct => true,
        };
        Routes {
            wrappings: Wrapping::ALL.into_iter().filter(works).collect(),
            oaep_hashes: self.oaep_hashes.clone(),
        }
    }

    /// Whether an object of the token can bear that label, nothing cut. What was not tried is left to the token.
    #[must_use]
    pub fn holds(&self, label: &Label) -> bool {
        self.label_chars == 0
            || u32::try_from(label.as_str().chars().count())
                .is_ok_and(|chars| chars <= self.label_chars)
    }

    /// Whether the token is known to take keys of this size.
    #[must_use]
    pub fn takes(&self, spec: KeySpec) -> bool {
        self.kind(spec.algorithm())
            .is_some_and(|kind| kind.sizes.contains(&spec.bits()))
    }

    /// How a key of this plan is disabled: the weakest strategy by which every usage that goes off is truly barred, and at
    /// least the one that the plan demands. Of a kind that was not tried nothing is known: the plan's.
    #[must_use]
    pub fn strategy(&self, plan: &ObjectPlan) -> Strategy {
        let mut worst = plan.strategy;
        let Some(kind) = self.kind(plan.spec.algorithm()) else {
            return worst;
        };
        for &class in plan.spec.class().objects() {
            let active = plan.usage_under(Want::Active, class);
            let kept = plan.usage_under(Want::Deactivated, class);
            for usage in active.iter().filter(|usage| !kept.has(*usage)) {
                worst = worst.max(self.strategy_of(kind, class, usage));
            }
        }
        worst
    }

    /// The weakest strategy that truly disables keys of every kind that the token makes, with the usages that they have
    /// unless their template says otherwise.
    #[must_use]
    pub fn usual_strategy(&self) -> Strategy {
        let mut worst = Strategy::Flags;
        for kind in &self.kinds {
            let spec = kind.sizes.first();
            if let Some(spec) = spec.and_then(|bits| KeySpec::new(kind.algorithm, *bits).ok()) {
                worst = worst.max(self.usual_strategy_of(spec));
            }
        }
        worst
    }

    /// The weakest strategy that truly disables keys of one kind with the usages that they have by default.
    #[must_use]
    pub fn usual_strategy_of(&self, spec: KeySpec) -> Strategy {
        let mut worst = Strategy::Flags;
        let Some(kind) = self.kind(spec.algorithm()) else {
            return worst;
        };
        let usual = spec.default_usage();
        for trial in kind.usages.iter().filter(|trial| usual.has(trial.usage)) {
            worst = worst.max(self.strategy_of(kind, trial.class, trial.usage));
        }
        worst
    }

    /// The weakest strategy that truly bars one usage of objects of a kind.
    #[must_use]
    pub fn strategy_of(
        &self,
        kind: &KindCapabilities,
        class: ObjectClass,
        usage: Usage,
    ) -> Strategy {
        match kind.flag(class, usage) {
            FlagChange::Enforced | FlagChange::ReadBack => Strategy::Flags,
            FlagChange::Refused if self.copy => Strategy::Copy,
            FlagChange::Refused | FlagChange::NotEnforced => Strategy::Withdraw,
        }
    }
}

impl KindCapabilities {
    /// What switching a usage off does on objects of a class; what was not tried counts as refused.
    #[must_use]
    pub fn flag(&self, class: ObjectClass, usage: Usage) -> FlagChange {
        let mut trials = self.usages.iter();
        trials
            .find(|trial| trial.class == class && trial.usage == usage)
            .map_or(FlagChange::Refused, |trial| trial.change)
    }

    fn best() -> Vec<Self> {
        let sizes: [(Algorithm, &[u32]); 5] = [
            (Algorithm::Aes, &[128, 192, 256]),
            (Algorithm::Des, &[192]),
            (Algorithm::Ec, &[256, 384, 521]),
            (Algorithm::Hmac, &[160, 256, 384, 512]),
            (Algorithm::Rsa, &[2048, 3072, 4096]),
        ];
        let best = |(algorithm, sizes): (Algorithm, &[u32])| Self {
            algorithm,
            sizes: sizes.to_vec(),
            unwrap: Unwrap::Honest,
            usages: KeySpec::new(algorithm, sizes.first().copied().unwrap_or(0))
                .map(|spec| spec.class().objects())
                .unwrap_or_default()
                .iter()
                .flat_map(|class| UsageTrial::best(*class))
                .collect(),
        };
        sizes.into_iter().map(best).collect()
    }
}
