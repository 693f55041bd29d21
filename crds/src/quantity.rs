//! Numbers of bytes as people write them.

/// A number of bytes: digits, with one of the suffixes that the schemas allow (`500Gi`, `100M`). None if it is something else, or more
/// than 64 bits hold.
pub fn parse_quantity(text: &str) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, suffix) = text.split_at(digits);
    let unit = match suffix {
        "" => 1,
        "k" => 1_000,
        "M" => 1_000_000,
        "G" => 1_000_000_000,
        "T" => 1_000_000_000_000,
        "Ki" => 1 << 10,
        "Mi" => 1 << 20,
        "Gi" => 1 << 30,
        "Ti" => 1 << 40,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_read() {
        assert_eq!(parse_quantity("1024"), Some(1024));
        assert_eq!(parse_quantity("500Gi"), Some(500 << 30));
        assert_eq!(parse_quantity("3k"), Some(3000));
        assert_eq!(parse_quantity("100M"), Some(100_000_000));
        for wrong in ["", "Gi", "1.5Gi", "-1", "1 Gi", "1Pi", "99999999999999999999", "99999999999Ti"] {
            assert_eq!(parse_quantity(wrong), None, "{wrong}");
        }
    }
}
