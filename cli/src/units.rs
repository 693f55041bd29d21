//! Numbers of bytes and times as people write and read them.

use std::time::Duration;

/// Reads `4096`, `64Ki`, `16M`, `1.5GiB`, `10MB`: binary suffixes are powers of 1024, others of 1000.
pub fn parse_bytes(text: &str) -> Result<u64, String> {
    let wrong = || format!("`{text}` is not a number of bytes; examples: 4096, 64Ki, 256MiB, 16M");
    let at = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(at);
    let unit = unit.trim().trim_end_matches(['B', 'b']);
    let factor: u64 = match unit {
        "" => 1,
        "k" | "K" => 1000,
        "M" | "m" => 1000 * 1000,
        "G" | "g" => 1000 * 1000 * 1000,
        "T" | "t" => 1000 * 1000 * 1000 * 1000,
        "Ki" => 1 << 10,
        "Mi" => 1 << 20,
        "Gi" => 1 << 30,
        "Ti" => 1 << 40,
        _ => return Err(wrong()),
    };
    if number.contains('.') {
        let number: f64 = number.parse().map_err(|_| wrong())?;
        return Ok((number * factor as f64) as u64);
    }
    number.parse::<u64>().ok().and_then(|whole| whole.checked_mul(factor)).ok_or_else(wrong)
}

/// `256 MiB`, `1.5 GiB`, `17 B`.
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = count as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    // Whole numbers and large ones need no fraction.
    if value.fract() == 0.0 || value >= 100.0 {
        format!("{value:.0} {}", UNITS[unit])
    } else {
        format!("{value:.1} {}", UNITS[unit])
    }
}

/// Reads `90`, `90s`, `10m`, `2h`, `1d`.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is no time; examples: 90s, 10m, 2h, 1d");
    let at = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(at);
    let factor: u64 = match unit {
        "" | "s" => 1,
        "m" => 60,
        "h" => 60 * 60,
        "d" => 24 * 60 * 60,
        _ => return Err(wrong()),
    };
    let seconds = number.parse::<u64>().ok().and_then(|number| number.checked_mul(factor));
    // A timer cannot look further ahead than a century or so.
    seconds.filter(|seconds| *seconds <= 36_500 * 24 * 60 * 60).map(Duration::from_secs).ok_or_else(wrong)
}

/// `45 s`, `3 min 20 s`, `2 h 5 min`.
pub fn duration(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        for (text, expected) in [("0", 0), ("90", 90), ("90s", 90), ("10m", 600), ("2h", 7200), ("1d", 86400)]
        {
            assert_eq!(parse_duration(text), Ok(Duration::from_secs(expected)), "{text}");
        }
        for text in ["", "m", "1w", "-1", "1.5h", "99999999999999999999", "99999999999999d"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
        assert_eq!(duration(59), "59 s");
        assert_eq!(duration(200), "3 min 20 s");
        assert_eq!(duration(7500), "2 h 5 min");
    }

    #[test]
    fn reads() {
        for (text, expected) in [
            ("0", 0),
            ("4096", 4096),
            ("64Ki", 65536),
            ("256MiB", 256 << 20),
            ("16M", 16_000_000),
            ("10MB", 10_000_000),
            ("1.5Gi", 3 << 29),
            ("1 k", 1000),
        ] {
            assert_eq!(parse_bytes(text), Ok(expected), "{text}");
        }
        for text in ["", "x", "12X", "-1", "99999999999999999999", "18446744073709551615Ki"] {
            assert!(parse_bytes(text).is_err(), "{text}");
        }
    }

    #[test]
    fn writes() {
        assert_eq!(bytes(17), "17 B");
        assert_eq!(bytes(256 << 20), "256 MiB");
        assert_eq!(bytes(3 << 29), "1.5 GiB");
        assert_eq!(bytes(1_000_000), "977 KiB");
    }
}
