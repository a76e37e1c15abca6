//! Eight points in vectors, and their sums. As elsewhere, none is the point at infinity.

use std::arch::x86_64::__mmask8;

use super::field::{Away, Fe8};

/// Eight points by their coordinates.
#[derive(Clone, Copy)]
pub(super) struct Affine8 {
    pub(super) x: Fe8,
    pub(super) y: Fe8,
}

impl Affine8 {
    /// Each and the other of its lane, from 1/(x₂ − x₁): five products and a square with their share of an inversion.
    #[target_feature(enable = "avx512f,avx512ifma")]
    #[inline]
    pub(super) fn add(&self, other: &Self, inverse: &Fe8) -> Self {
        let slope = other.y.sub(&self.y).mul(inverse);
        let x = slope.square_sub(&self.x, &other.x);
        Self { x, y: slope.mul_sub(&self.x.sub(&x), &self.y) }
    }

    #[target_feature(enable = "avx512f,avx512ifma")]
    #[inline]
    pub(super) fn replaced(&self, mask: __mmask8, other: &Self) -> Self {
        Self { x: self.x.replaced(mask, &other.x), y: self.y.replaced(mask, &other.y) }
    }
}

/// Eight points by x = X/Z², y = Y/Z³. Z stays zero once two points were the same or opposite, as the Z of a sum is a multiple
/// of those of both.
#[derive(Clone, Copy)]
pub(super) struct Jacobian8 {
    pub(super) x: Fe8,
    pub(super) y: Fe8,
    pub(super) z: Fe8,
}

impl Jacobian8 {
    /// Each of the one and the other of its lane: four products and two squares.
    #[target_feature(enable = "avx512f,avx512ifma")]
    #[inline]
    pub(super) fn of_sum(first: &Affine8, second: &Affine8) -> Self {
        let (dx, dy) = (second.x.sub(&first.x), second.y.sub(&first.y));
        Self::sum(&dx, &dy, &first.x, &first.y, dx)
    }

    /// From dx = x₂ − x₁ and dy = y₂ − y₁ over a common Z, x₁ and y₁ over the same, and the Z of the sum.
    #[target_feature(enable = "avx512f,avx512ifma")]
    #[inline]
    fn sum(dx: &Fe8, dy: &Fe8, x1: &Fe8, y1: &Fe8, z: Fe8) -> Self {
        let dx2 = dx.square();
        let (dx3, v) = (dx2.mul(dx), x1.mul(&dx2));
        let x = dy.square_sub(&dx3, &v.add(&v));
        let y = dy.mul_sub(&v.sub(&x), &y1.mul(&dx3));
        Self { x, y, z }
    }

    /// Each and the other of its lane: eight products and three squares.
    #[target_feature(enable = "avx512f,avx512ifma")]
    #[inline]
    pub(super) fn add(&self, other: &Affine8) -> Self {
        let zz = self.z.square();
        let dx = other.x.mul(&zz).sub(&self.x);
        let dy = other.y.mul(&zz.mul(&self.z)).sub(&self.y);
        Self::sum(&dx, &dy, &self.x, &self.y, self.z.mul(&dx))
    }

    /// Each and the one so many lanes away. What the other lane has computed already is taken from there.
    #[target_feature(enable = "avx512f,avx512ifma")]
    #[inline]
    pub(super) fn add_across(&self, away: Away) -> Self {
        let zz = self.z.square();
        let zzz = zz.mul(&self.z);
        let x1 = self.x.mul(&zz.swapped(away));
        let y1 = self.y.mul(&zzz.swapped(away));
        let (dx, dy) = (x1.swapped(away).sub(&x1), y1.swapped(away).sub(&y1));
        let z = self.z.mul(&self.z.swapped(away)).mul(&dx);
        Self::sum(&dx, &dy, &x1, &y1, z)
    }

    #[target_feature(enable = "avx512f,avx512ifma")]
    #[inline]
    pub(super) fn replaced(&self, mask: __mmask8, other: &Self) -> Self {
        Self {
            x: self.x.replaced(mask, &other.x),
            y: self.y.replaced(mask, &other.y),
            z: self.z.replaced(mask, &other.z),
        }
    }
}
