//! Findings in words, as `linkerd check` has them: one line for what holds, and what was seen and how to mend it below what
//! does not.

use super::{Finding, Outcome};

pub(super) fn lines(findings: &[Finding]) -> Vec<String> {
    let mut lines = Vec::new();
    let mut group = "";
    for finding in findings {
        if finding.group != group {
            group = finding.group;
            if !lines.is_empty() {
                lines.push(String::new());
            }
            lines.push(group.to_owned());
        }
        let mark = match finding.outcome {
            Outcome::Passed => "ok  ",
            Outcome::Warning => "warn",
            Outcome::Failed => "FAIL",
            Outcome::Unknown => "?   ",
        };
        lines.push(format!("  {mark}  {}", finding.what));
        if !finding.seen.is_empty() {
            lines.push(format!("          {}", finding.seen));
        }
        if !finding.mend.is_empty() {
            lines.push(format!("          to mend it: {}", finding.mend));
        }
    }
    let count = |outcome| findings.iter().filter(|it| it.outcome == outcome).count();
    lines.push(String::new());
    lines.push(format!(
        "{} passed, {} failed, {} warnings, {} unknown",
        count(Outcome::Passed),
        count(Outcome::Failed),
        count(Outcome::Warning),
        count(Outcome::Unknown)
    ));
    lines
}
