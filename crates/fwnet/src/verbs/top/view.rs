//! How `top` draws: a line on top, tables of processes and peers side by side, rules, and the last denials.

use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    style::{Color, Modifier, Style},
    text::{Line, Span},
    widgets::{Block, Borders, Cell, List, ListItem, Paragraph, Row as TableRow, Table},
};

use super::model::{Model, Row};

/// Narrower than this, tables stand below each other.
const WIDE: u16 = 100;

/// Draws everything.
pub(super) fn draw(frame: &mut Frame<'_>, model: &Model) {
    let [head, tables, rules, denials] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Fill(2),
        Constraint::Fill(1),
        Constraint::Fill(1),
    ])
    .areas(frame.area());
    draw_head(frame, head, model);
    let split = [Constraint::Fill(1), Constraint::Fill(1)];
    let layout = if frame.area().width >= WIDE {
        Layout::horizontal(split)
    } else {
        Layout::vertical(split)
    };
    let [processes, peers] = layout.areas(tables);
    draw_table(frame, processes, "processes", &model.processes);
    draw_table(frame, peers, "peers", &model.peers);
    draw_table(frame, rules, "rules", &model.rules);
    draw_denials(frame, denials, &model.denials);
}

fn draw_head(frame: &mut Frame<'_>, area: Rect, model: &Model) {
    let (all, denied) = model.rates;
    let mut spans = vec![
        Span::styled(
            format!("fwnet on {}", plain(&model.host)),
            Style::new().add_modifier(Modifier::BOLD),
        ),
        Span::raw(format!("  {} flows/s  ", rate(all))),
        Span::styled(format!("{} denied/s", rate(denied)), denied_style(denied)),
    ];
    let rest = match (&model.trouble, model.paused) {
        (Some(trouble), _) => {
            Span::styled(format!("  {}", plain(trouble)), Style::new().fg(Color::Red))
        }
        (None, true) => Span::raw("  paused"),
        (None, false) => Span::raw("  q quit  p pause"),
    };
    spans.push(rest);
    frame.render_widget(Paragraph::new(Line::from(spans)), area);
}

fn draw_table(frame: &mut Frame<'_>, area: Rect, title: &str, rows: &[Row]) {
    let lines = rows.iter().take(usize::from(area.height)).map(|row| {
        TableRow::new([
            Cell::from(format!("{:>8}", rate(row.rate))),
            Cell::from(format!("{:>8}", rate(row.denied))).style(denied_style(row.denied)),
            Cell::from(format!("{:>9}", row.total)),
            Cell::from(plain(&row.name)),
        ])
    });
    let widths =
        [Constraint::Length(8), Constraint::Length(8), Constraint::Length(9), Constraint::Fill(1)];
    let head = TableRow::new(["      /s", "denied/s", "    total", title])
        .style(Style::new().add_modifier(Modifier::BOLD));
    let table = Table::new(lines, widths).header(head).block(Block::new().borders(Borders::TOP));
    frame.render_widget(table, area);
}

fn draw_denials(frame: &mut Frame<'_>, area: Rect, denials: &[String]) {
    let block = Block::new().borders(Borders::TOP).title("denials");
    let shown = denials.iter().take(usize::from(area.height));
    let items = shown.map(|line| ListItem::new(plain(line)));
    let list = List::new(items).block(block).style(Style::new().fg(Color::Red));
    frame.render_widget(list, area);
}

fn denied_style(denied: f64) -> Style {
    if denied > 0.0 { Style::new().fg(Color::Red) } else { Style::new() }
}

/// Three digits at least.
fn rate(rate: f64) -> String {
    if rate >= 100.0 { format!("{rate:.0}") } else { format!("{rate:.1}") }
}

/// Fit for a terminal, whatever a thread calls itself.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use ::agent::flows::{Kind, Process, Record};
    use jiff::{SignedDuration, Timestamp};
    use policy::{Way, syntax::Answer};
    use ratatui::{Terminal, backend::TestBackend};

    use super::{super::model::Sample, *};
    use crate::api::routes::rules::CountedRule;

    const NOW: Timestamp = Timestamp::constant(1_900_000_000, 0);

    fn record(exe: &str, remote: &str, verdict: Answer, count: u64) -> Record {
        Record {
            kind: Kind {
                direction: Way::Out,
                protocol: 6,
                local: None,
                remote: remote.parse().unwrap(),
                port: 443,
                process: Process { exe: Some(exe.to_owned()), ..Process::default() },
                verdict,
                rule: "r".to_owned(),
                would: verdict,
                would_rule: "r".to_owned(),
            },
            name: String::new(),
            pid: 1,
            count,
            first: NOW,
            last: NOW,
        }
    }

    fn sample(second: i64, counts: [u64; 2]) -> Sample {
        let [curl, nc] = counts;
        let rule = CountedRule {
            id: "no-nc".to_owned(),
            direction: "out".to_owned(),
            verdict: "deny".to_owned(),
            mode: "enforce".to_owned(),
            text: Some("deny any -> 192.0.2.2".to_owned()),
            place: None,
            hits: nc,
            would: 0,
            since: NOW,
            last_hit: None,
        };
        Sample {
            time: NOW + SignedDuration::from_secs(second),
            records: vec![
                record("/usr/bin/curl", "192.0.2.1", Answer::Allow, curl),
                record("/usr/bin/nc\u{1b}[2J", "192.0.2.2", Answer::Deny, nc),
            ],
            rules: vec![rule],
            denials: vec!["17:46:40 denied  out tcp 192.0.2.2:443".to_owned()],
        }
    }

    fn drawn(model: &Model, width: u16) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, 24)).unwrap();
        terminal.draw(|frame| draw(frame, model)).unwrap();
        terminal.backend().to_string()
    }

    #[test]
    fn rates_are_the_difference_of_two_looks() {
        let mut model = Model::new("web-1");
        model.update(sample(0, [10, 100]));
        assert_eq!(model.rates, (0.0, 0.0), "one look has no rate");
        model.update(sample(2, [20, 400]));
        assert_eq!(model.rates, (155.0, 150.0));
        let shown = drawn(&model, 120);
        for wanted in [
            "fwnet on web-1  155 flows/s  150 denied/s",
            "     150      150       400 /usr/bin/nc",
            "     5.0      0.0        20 /usr/bin/curl",
            "-> 192.0.2.2 tcp/443",
            "     150      150       400 out no-nc: deny any -> 192.0.2.2",
            "17:46:40 denied  out tcp 192.0.2.2:443",
        ] {
            assert!(shown.contains(wanted), "{wanted} is not in\n{shown}");
        }
        assert!(!shown.contains('\u{1b}'), "a name cannot clear the screen");
        assert!(drawn(&model, 60).contains("/usr/bin/curl"), "narrow screens show the same");
        drawn(&model, 1);
    }

    #[test]
    fn trouble_is_shown_and_what_was_known_stays() {
        let mut model = Model::new("web-1");
        model.update(sample(0, [10, 100]));
        model.trouble = Some("no agent answers".to_owned());
        let shown = drawn(&model, 120);
        assert!(shown.contains("no agent answers") && shown.contains("/usr/bin/curl"), "{shown}");
    }
}
