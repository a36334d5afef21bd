//! Taints of nodes and tolerations of pods.
//!
//! Source: `api/core/v1/toleration.go` v1.37, `ToleratesTaint`; the comparison operators Lt and Gt are alpha and off there, so they match nothing here.

use super::intern::{Interner, Sym};

/// What a taint does to pods that do not tolerate it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Effect {
    /// No new pods.
    NoSchedule,
    /// Rather no new pods.
    PreferNoSchedule,
    /// No pods at all.
    NoExecute,
}

impl Effect {
    /// Reads an effect; an unknown one is none of ours and never keeps a pod away.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "NoSchedule" => Some(Self::NoSchedule),
            "PreferNoSchedule" => Some(Self::PreferNoSchedule),
            "NoExecute" => Some(Self::NoExecute),
            _ => None,
        }
    }
}

/// A taint as the object gives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaintFacts {
    /// Key.
    pub key: Box<str>,
    /// Value, may be empty.
    pub value: Box<str>,
    /// Effect.
    pub effect: Effect,
}

/// A toleration as the object gives it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TolerationFacts {
    /// Empty with `Exists` tolerates every key.
    pub key: Box<str>,
    /// `Equal` (also when empty), `Exists`.
    pub operator: Box<str>,
    /// Value for `Equal`.
    pub value: Box<str>,
    /// Empty tolerates every effect.
    pub effect: Box<str>,
}

/// An interned taint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Taint {
    /// Key.
    pub key: Sym,
    /// Value, may be the empty string.
    pub value: Sym,
    /// Effect.
    pub effect: Effect,
}

/// An interned toleration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Toleration {
    /// `None`: every key.
    pub key: Option<Sym>,
    /// `None`: every value.
    pub value: Option<Sym>,
    /// `None`: every effect.
    pub effect: Option<Effect>,
}

impl Taint {
    /// Interns a taint.
    pub fn intern(facts: &TaintFacts, table: &mut Interner) -> Self {
        Self { key: table.intern(&facts.key), value: table.intern(&facts.value), effect: facts.effect }
    }
}

impl Toleration {
    /// Interns a toleration; `None` if it can match nothing (unknown operator or effect).
    pub fn intern(facts: &TolerationFacts, table: &mut Interner) -> Option<Self> {
        let effect = match &*facts.effect {
            "" => None,
            text => Some(Effect::parse(text)?),
        };
        let value = match &*facts.operator {
            "" | "Equal" => Some(table.intern(&facts.value)),
            "Exists" => None,
            _ => return None,
        };
        let key = (!facts.key.is_empty()).then(|| table.intern(&facts.key));
        Some(Self { key, value, effect })
    }

    /// Whether this toleration covers the taint.
    pub fn tolerates(&self, taint: &Taint) -> bool {
        self.effect.is_none_or(|effect| effect == taint.effect)
            && self.key.is_none_or(|key| key == taint.key)
            && self.value.is_none_or(|value| value == taint.value)
    }
}
