//! What stands for the vectors on processors that have none of theirs.

use crate::{
    curve::{Affine, Jacobian},
    table::Term,
};

/// Never there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ifma {}

/// Two points that were to be added are the same or opposite.
pub(crate) struct Met;

impl Ifma {
    pub(crate) const fn detect() -> Option<Self> {
        None
    }

    pub(crate) const fn sum_of_one(self, _: &[Term<'_>]) -> Option<Jacobian> {
        match self {}
    }

    pub(crate) const fn sums(self, _: &[&[Term<'_>]], _: &mut Vec<Option<Affine>>) -> Result<(), Met> {
        match self {}
    }
}
