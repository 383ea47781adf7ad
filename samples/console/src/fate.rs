//! What becomes of a source, decided by its name alone, so that it is the same after each restart.

/// The index of the tenant, of so many, that gets the source.
pub(crate) fn tenant_of(name: &str, tenants: usize) -> usize {
    let tenants = tenants.max(1) as u64;
    usize::try_from(draw("tenant", name) % tenants).unwrap_or_default()
}

/// Whether the source is among the `percent` % that fail on their first attempt.
pub(crate) fn fails_once(name: &str, percent: f64) -> bool {
    (draw("fail", name) as f64) < percent / 100.0 * u64::MAX as f64
}

/// A number from 0 to 100.
pub(crate) fn parse_percent(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(percent) if (0.0..=100.0).contains(&percent) => Ok(percent),
        _ => Err("must be a number from 0 to 100".to_owned()),
    }
}

/// A number that looks drawn by lot, and is always the same.
fn draw(purpose: &str, name: &str) -> u64 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(purpose.as_bytes()).update(&[0]).update(name.as_bytes());
    let mut first = [0; 8];
    hasher.finalize_xof().fill(&mut first);
    u64::from_le_bytes(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn about_the_percentage_asked_for_fails_and_the_same_ones_each_time() {
        let names: Vec<_> = (0..10_000).map(|n| format!("dir/file-{n}")).collect();
        let failing = |percent| names.iter().filter(|name| fails_once(name, percent)).count();
        assert_eq!(failing(0.0), 0);
        assert_eq!(failing(100.0), names.len());
        assert!((400..600).contains(&failing(5.0)), "{}", failing(5.0));
        assert_eq!(failing(5.0), failing(5.0));
    }

    #[test]
    fn tenants_get_about_the_same_number_of_sources() {
        let mut shares = [0; 4];
        for n in 0..10_000 {
            shares[tenant_of(&format!("file-{n}"), 4)] += 1;
        }
        assert!(shares.iter().all(|share| (2_200..2_800).contains(share)), "{shares:?}");
    }

    #[test]
    fn a_percentage_beyond_its_range_is_refused() {
        assert_eq!(parse_percent("2.5"), Ok(2.5));
        for wrong in ["-1", "100.1", "NaN", "many"] {
            assert!(parse_percent(wrong).is_err(), "{wrong}");
        }
    }
}
