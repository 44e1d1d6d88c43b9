//! The screen of `status --watch`. What is on it is a pure function of the view ([`frame`]); the rest is the terminal.

use std::io::{self, Stdout};

use jiff::Timestamp;
use ratatui::backend::TermionBackend;
use ratatui::layout::{Constraint, Layout};
use ratatui::style::{Modifier, Style};
use ratatui::termion::event::Key as Pressed;
use ratatui::termion::input::TermRead;
use ratatui::termion::raw::{IntoRawMode, RawTerminal};
use ratatui::termion::screen::{AlternateScreen, IntoAlternateScreen};
use ratatui::text::Line;
use ratatui::widgets::Paragraph;
use ratatui::{Frame, Terminal};
use tokio::sync::mpsc;

use crate::lines::lines;
use crate::view::View;

type Inner = Terminal<TermionBackend<AlternateScreen<RawTerminal<Stdout>>>>;

/// The whole terminal; what was on it comes back when this is dropped.
pub(super) struct Screen(Inner);

/// What a person wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    Up,
    Down,
    End,
}

impl Screen {
    pub(super) fn open() -> io::Result<Screen> {
        let out = io::stdout().into_raw_mode()?.into_alternate_screen()?;
        Ok(Screen(Terminal::new(TermionBackend::new(out))?))
    }

    /// Shows it from line `scrolled` on; gives how far it could be scrolled.
    pub(super) fn show(
        &mut self,
        view: &View,
        now: Timestamp,
        scrolled: usize,
    ) -> io::Result<usize> {
        let mut could = 0;
        self.0.draw(|it| could = frame(it, view, now, scrolled))?;
        Ok(could)
    }
}

/// Draws a view; gives how far it could be scrolled, at most `scrolled`.
fn frame(frame: &mut Frame<'_>, view: &View, now: Timestamp, scrolled: usize) -> usize {
    let [body, foot] =
        Layout::vertical([Constraint::Min(0), Constraint::Length(1)]).areas(frame.area());
    let lines = lines(view, now, usize::from(body.width));
    let beyond = lines.len().saturating_sub(usize::from(body.height));
    let scrolled = scrolled.min(beyond);
    let shown: Vec<Line<'static>> = lines.into_iter().skip(scrolled).collect();
    frame.render_widget(Paragraph::new(shown), body);
    let more = if beyond > scrolled {
        ", down for more"
    } else {
        ""
    };
    let help = format!("{}  q ends{more}", now.strftime("%H:%M:%SZ"));
    let faint = Style::new().add_modifier(Modifier::DIM);
    frame.render_widget(Paragraph::new(Line::styled(help, faint)), foot);
    scrolled
}

/// What is pressed from now on. The thread that reads it ends with the process.
pub(super) fn keys() -> mpsc::Receiver<Key> {
    let (tell, keys) = mpsc::channel(8);
    std::thread::spawn(move || {
        for pressed in io::stdin().keys() {
            let Ok(pressed) = pressed else {
                return;
            };
            let key = match pressed {
                Pressed::Char('q') | Pressed::Esc | Pressed::Ctrl('c' | 'd') => Key::End,
                Pressed::Down | Pressed::Char('j' | ' ') => Key::Down,
                Pressed::Up | Pressed::Char('k') => Key::Up,
                _ => continue,
            };
            if tell.blocking_send(key).is_err() {
                return;
            }
        }
    });
    keys
}

#[cfg(test)]
mod tests {
    use ratatui::backend::TestBackend;

    use super::*;
    use crate::view::testing::soaking;

    fn drawn(width: u16, height: u16, scrolled: usize) -> (String, usize) {
        let (view, now) = soaking();
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        let mut could = 0;
        terminal
            .draw(|it| could = frame(it, &view, now, scrolled))
            .unwrap();
        (terminal.backend().to_string(), could)
    }

    #[test]
    fn the_screen_shows_the_release_from_its_first_line_on() {
        let (shown, could) = drawn(100, 30, 0);
        assert_eq!(could, 0);
        for text in [
            "shop/payment  Soaking 2/4",
            "1% > [10%] > 50% > 100%",
            "q ends",
        ] {
            assert!(shown.contains(text), "{text}:\n{shown}");
        }
    }

    #[test]
    fn a_small_screen_is_scrolled_and_no_further_than_there_is_something() {
        let (top, _) = drawn(60, 8, 0);
        assert!(
            top.contains("shop/payment") && top.contains("down for more"),
            "{top}"
        );
        let (end, could) = drawn(60, 8, 1000);
        assert!(could < 1000 && !end.contains("down for more"), "{end}");
        assert!(end.contains("WeightRaised"), "{end}");
    }

    #[test]
    fn no_screen_is_too_small() {
        for (width, height) in [(1, 1), (5, 2), (200, 1)] {
            drawn(width, height, 3);
        }
    }
}
