//! The fewest faults of a scenario with which the same invariant does not hold.

use crate::{Outcome, Scenario, Violation};

/// Leaves faults out, half of them first and one by one in the end, as long as the same invariant is violated without them.
pub fn shrink(
    scenario: &Scenario,
    violation: Violation,
    simulate: impl Fn(&Scenario) -> Result<Outcome, Violation>,
) -> (Scenario, Violation) {
    let (mut scenario, mut violation) = (scenario.clone(), violation);
    let mut step = scenario.faults.len().div_ceil(2);
    while step > 0 {
        let mut from = 0;
        while from < scenario.faults.len() {
            let mut fewer = scenario.clone();
            fewer.faults.drain(from..scenario.faults.len().min(from + step));
            match simulate(&fewer) {
                Err(same) if same.invariant == violation.invariant => (scenario, violation) = (fewer, same),
                _ => from += step,
            }
        }
        step = if step == 1 { 0 } else { step.div_ceil(2) };
    }
    (scenario, violation)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Invariant;

    #[test]
    fn what_it_takes_is_left_and_nothing_else() {
        let scenario =
            (0..).map(|seed| Scenario::draw(seed, 7)).find(|drawn| drawn.faults.len() > 7).unwrap();
        let violation = || Violation {
            seed: scenario.seed,
            at: 0,
            node: None,
            invariant: Invariant::Live,
            detail: String::new(),
        };
        let fails = |scenario: &Scenario| {
            let has = |id| scenario.faults.iter().any(|fault| fault.id == id);
            if has(1) && has(6) {
                return Err(violation());
            }
            Ok(Outcome { trace: 0, seconds: 0, converged_after: 0, frames: 0, published: 0, refused: 0 })
        };
        let (shrunk, _) = shrink(&scenario, violation(), fails);
        assert_eq!(shrunk.faults.iter().map(|fault| fault.id).collect::<Vec<_>>(), [1, 6]);
        assert_eq!(shrunk, scenario.clone().only(&[1, 6]));
    }
}
