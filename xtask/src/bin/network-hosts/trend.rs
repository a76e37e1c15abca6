//! How something that is measured goes over time.

use serde::Serialize;

/// How something went.
#[derive(Debug, Serialize)]
pub(crate) struct Trend {
    first: f64,
    most: f64,
    last: f64,
    /// The slope of the line that fits best.
    an_hour: f64,
}

impl Trend {
    /// Of hours and values.
    pub(crate) fn of(points: &[(f64, f64)]) -> Self {
        let value = |point: Option<&(f64, f64)>| point.map_or(f64::NAN, |point| point.1);
        Self {
            first: value(points.first()),
            most: points.iter().map(|point| point.1).fold(f64::NAN, f64::max),
            last: value(points.last()),
            an_hour: slope(points),
        }
    }
}

/// Of the line with the least squares through these points.
fn slope(points: &[(f64, f64)]) -> f64 {
    let count = points.len() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / count;
    let (x, y) = (mean(|point| point.0), mean(|point| point.1));
    let covariance: f64 = points.iter().map(|point| (point.0 - x) * (point.1 - y)).sum();
    let variance: f64 = points.iter().map(|point| (point.0 - x).powi(2)).sum();
    covariance / variance
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slope_is_that_of_the_line_through_the_points() {
        assert!((slope(&[(0.0, 5.0), (1.0, 7.0), (2.0, 9.0)]) - 2.0).abs() < 1e-9);
        assert!(slope(&[(0.0, 1.0), (1.0, 3.0), (2.0, 1.0)]).abs() < 1e-9);
    }

    #[test]
    fn a_trend_is_told_by_its_ends_its_peak_and_its_slope() {
        let trend = Trend::of(&[(0.0, 1.0), (1.0, 5.0), (2.0, 3.0)]);
        for (told, value) in [(trend.first, 1.0), (trend.most, 5.0), (trend.last, 3.0), (trend.an_hour, 1.0)]
        {
            assert!((told - value).abs() < 1e-9);
        }
    }
}
