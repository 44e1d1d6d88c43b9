//! What colours mean: green is well, yellow wants a look, red is bad; what is faint is beside the point.

use ratatui::style::{Color, Modifier, Style};

pub(super) fn faint() -> Style {
    Style::new().add_modifier(Modifier::DIM)
}

pub(super) fn warning() -> Style {
    Style::new().fg(Color::Yellow)
}

pub(super) fn bad() -> Style {
    Style::new().fg(Color::Red)
}

pub(super) fn good() -> Style {
    Style::new().fg(Color::Green)
}

pub(super) fn verdict_style(verdict: &str) -> Style {
    match verdict {
        "Pass" => good(),
        "Fail" => bad(),
        _ => warning(),
    }
}

pub(super) fn phase_style(phase: &str) -> Style {
    match phase {
        "Stable" => good(),
        "Failed" | "RollingBack" | "Returning" => bad(),
        "Paused" | "Unsettled" | "Pending" => warning(),
        _ => Style::new().fg(Color::Cyan),
    }
}
