//! `strftime` for chat templates: English names, UTC.

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] =
    ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

/// Formats `seconds` since 1970-01-01 UTC as C's `strftime` does in English.
///
/// # Errors
///
/// Names the first directive that is not supported.
pub(super) fn format(format: &str, seconds: u64) -> Result<String, String> {
    let days = seconds / 86_400;
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    let weekday = DAYS[(days + 4) as usize % 7];
    let month_name = MONTHS[month as usize - 1];
    let day_of_year = days - days_before(year) + 1;
    let mut out = String::new();
    let mut letters = format.chars();
    while let Some(letter) = letters.next() {
        if letter != '%' {
            out.push(letter);
            continue;
        }
        // `%-d` and the like: without leading zeros.
        let (directive, padded) = match letters.next() {
            Some('-') => (letters.next(), false),
            other => (other, true),
        };
        let number = |value: u64, width: usize| {
            if padded { format!("{value:0width$}") } else { value.to_string() }
        };
        let hour12 = (hour + 11) % 12 + 1;
        out.push_str(&match directive {
            Some('Y') => number(year, 4),
            Some('y') => number(year % 100, 2),
            Some('m') => number(month, 2),
            Some('d') => number(day, 2),
            Some('e') => format!("{day:2}"),
            Some('j') => number(day_of_year, 3),
            Some('H') => number(hour, 2),
            Some('I') => number(hour12, 2),
            Some('M') => number(minute, 2),
            Some('S') => number(second, 2),
            Some('p') => if hour < 12 { "AM" } else { "PM" }.into(),
            Some('B') => month_name.into(),
            Some('b' | 'h') => month_name[..3].into(),
            Some('A') => weekday.into(),
            Some('a') => weekday[..3].into(),
            Some('F') => format!("{year:04}-{month:02}-{day:02}"),
            Some('D') => format!("{month:02}/{day:02}/{:02}", year % 100),
            Some('T') => format!("{hour:02}:{minute:02}:{second:02}"),
            Some('R') => format!("{hour:02}:{minute:02}"),
            Some('Z') => "UTC".into(),
            Some('z') => "+0000".into(),
            Some('n') => "\n".into(),
            Some('%') => "%".into(),
            other => return Err(format!("strftime_now does not know %{}", other.unwrap_or(' '))),
        });
    }
    Ok(out)
}

/// (year, month, day) of a day counted from 1970-01-01.
fn civil(days: u64) -> (u64, u64, u64) {
    let mut year = 1970 + days / 366;
    while days_before(year + 1) <= days {
        year += 1;
    }
    let mut day = days - days_before(year);
    let mut month = 1;
    while day >= month_length(year, month) {
        day -= month_length(year, month);
        month += 1;
    }
    (year, month, day + 1)
}

/// Days from 1970-01-01 to the first of January of `year`, not before 1970.
fn days_before(year: u64) -> u64 {
    let leap_days = |year: u64| year / 4 - year / 100 + year / 400;
    (year - 1970) * 365 + leap_days(year - 1) - leap_days(1969)
}

fn month_length(year: u64, month: u64) -> u64 {
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

#[cfg(test)]
mod tests {
    use super::format;

    #[test]
    fn dates_are_those_of_gnu_date() {
        // `LC_ALL=C date -u -d @seconds +format`
        let cases = [
            (0, "%Y-%m-%d %H:%M:%S %a", "1970-01-01 00:00:00 Thu"),
            (951_782_400, "%d %b %Y, %j", "29 Feb 2000, 060"),
            (1_735_689_599, "%A %e %B %Y %I:%M %p %j", "Tuesday 31 December 2024 11:59 PM 366"),
            (4_107_542_400, "%F %T %y %-d/%-m", "2100-03-01 00:00:00 00 1/3"),
            (1_684_281_600, "100%% %D", "100% 05/17/23"),
        ];
        for (seconds, template, expected) in cases {
            assert_eq!(format(template, seconds).as_deref(), Ok(expected), "{template}");
        }
        assert!(format("%Q", 0).is_err());
        assert!(format("%", 0).is_err());
    }
}
