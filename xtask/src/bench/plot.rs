//! Bars beside names on a logarithmic scale, as SVG (https://www.w3.org/TR/SVG11/): what docs/performance.md shows.

use super::line;
use super::sample::Spread;

/// One bar: its name, how long it is, whether it is ours.
pub(super) struct Bar {
    pub name: String,
    pub times: Spread,
    pub ours: bool,
}

/// In units of the drawing.
const WIDTH: f64 = 960.0;
const NAMES: f64 = 420.0;
const FIGURES: f64 = 90.0;
const HEAD: f64 = 54.0;
const ROW: f64 = 26.0;
const THICK: f64 = 14.0;

/// Bars from 1 to the next power of ten, each with a line from its least to its most.
pub(super) fn bars(title: &str, bars: &[Bar]) -> String {
    let most = bars.iter().map(|bar| bar.times.max).fold(2.0, f64::max);
    let decades = most.log10().ceil().max(1.0);
    let right = WIDTH - FIGURES;
    let place = |times: f64| NAMES + (right - NAMES) * times.max(1.0).log10() / decades;
    let height = HEAD + ROW * (0..bars.len()).map(|_| 1.0).sum::<f64>() + 12.0;
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" font-size=\"13\">\n\
         <rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#ffffff\"/>\n\
         <text x=\"12\" y=\"22\" font-size=\"15\" fill=\"#1b1f24\">{}</text>\n",
        escaped(title)
    );
    let mut mark = 1.0;
    while mark <= 10_f64.powf(decades) * 1.001 {
        for step in [1.0, 2.0, 5.0] {
            let times: f64 = mark * step;
            if times.log10() <= decades + 1e-9 {
                let x = place(times);
                line(
                    &mut text,
                    &format!(
                        "<line x1=\"{x:.1}\" y1=\"{HEAD}\" x2=\"{x:.1}\" y2=\"{:.1}\" stroke=\"#d8dee4\"/>\
                         <text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\" fill=\"#57606a\">{times:.0}x</text>",
                        height - 12.0,
                        HEAD - 6.0
                    ),
                );
            }
        }
        mark *= 10.0;
    }
    let mut top = HEAD;
    for Bar { name, times, ours } in bars {
        let (middle, colour) = (top + ROW / 2.0, if *ours { "#0a7d4f" } else { "#8c959f" });
        let length = (place(times.median) - NAMES).max(2.0);
        let parts = [
            format!(
                "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\" fill=\"#1b1f24\">{}</text>",
                NAMES - 8.0,
                middle + 4.5,
                escaped(name)
            ),
            format!(
                "<rect x=\"{NAMES}\" y=\"{:.1}\" width=\"{length:.1}\" height=\"{THICK}\" fill=\"{colour}\"/>",
                middle - THICK / 2.0
            ),
            format!(
                "<line x1=\"{:.1}\" y1=\"{middle:.1}\" x2=\"{:.1}\" y2=\"{middle:.1}\" stroke=\"#1b1f24\"/>",
                place(times.min),
                place(times.max)
            ),
            format!(
                "<text x=\"{:.1}\" y=\"{:.1}\" fill=\"#1b1f24\">{}</text>",
                place(times.max) + 6.0,
                middle + 4.5,
                shown(times.median)
            ),
        ];
        for part in parts {
            line(&mut text, &part);
        }
        top += ROW;
    }
    text + "</svg>\n"
}

/// Two digits behind the point where they matter.
fn shown(times: f64) -> String {
    if times < 10.0 { format!("{times:.2}x") } else { format!("{times:.0}x") }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_as_long_as_their_logarithms() {
        let bar = |name: &str, times| Bar {
            name: name.to_owned(),
            times: Spread { median: times, min: times, max: times },
            ours: false,
        };
        let drawn = bars("a < b", &[bar("ten", 10.0), bar("hundred", 100.0), bar("less", 0.9)]);
        let width = right_of(&drawn);
        assert_eq!(width.len(), 3);
        assert!((width[1] / width[0] - 2.0).abs() < 0.01 && width[2] < 3.0, "{width:?}");
        assert!(drawn.contains("a &lt; b") && drawn.contains(">0.90x<"));
    }

    /// Widths of the bars.
    fn right_of(drawn: &str) -> Vec<f64> {
        let bars = drawn.lines().filter(|line| line.starts_with("<rect x="));
        let width = |line: &str| line.split("width=\"").nth(1)?.split('"').next()?.parse().ok();
        bars.filter_map(width).collect()
    }
}
