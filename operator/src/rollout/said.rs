//! What happened, in the log: a line for each note, with what was known where something was decided.

use super::events::Note;
use crate::key::Key;
use crate::metrics::Metrics;
use crate::reason::Tone;

/// A level is part of the code, so there is one line for each.
macro_rules! line {
    ($level:ident, $rollout:ident, $note:ident) => {{
        let decision = $note.decision.as_deref();
        let guard = decision.and_then(|decision| decision.guard.as_ref());
        let exposure = decision.and_then(|decision| decision.exposure.as_ref());
        tracing::$level!(
            namespace = $rollout.namespace,
            rollout = $rollout.name,
            reason = $note.reason.name(),
            run = decision.map(|it| it.run),
            revision = decision.map(|it| it.revision.as_str()),
            weight = decision.map(|it| it.weight),
            asked_by = decision.and_then(|it| it.by.as_deref()),
            judged_requests = decision.map(|it| it.requests),
            judged = decision.map(|it| it.judged.as_str()),
            guard_requests = guard.map(|it| it.requests),
            guard_failed = guard.map(|it| it.failed),
            guard_stable_requests = guard.map(|it| it.stable_requests),
            guard_stable_failed = guard.map(|it| it.stable_failed),
            guard_evidence = guard.map(|it| it.evidence.as_str()),
            exposure_spent = exposure.map(|it| it.spent.as_str()),
            exposure_budget = exposure.map(|it| it.budget.as_str()),
            exposure_undetected = exposure.map(|it| it.undetected.as_str()),
            "{}",
            $note.text
        );
    }};
}

pub(super) fn tell(metrics: &Metrics, rollout: &Key, notes: &[Note]) {
    for note in notes {
        match note.tone {
            Tone::Normal => {
                metrics.said(note.reason.name(), "Normal");
                line!(info, rollout, note);
            }
            Tone::Warning => {
                metrics.said(note.reason.name(), "Warning");
                line!(warn, rollout, note);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use aviary_crds::status::{DecisionRecord, ExposureStatus, GuardStatus};
    use rollout_core::time::Time;
    use serde_json::Value;

    use super::*;
    use crate::reason::Reason;
    use crate::rollout::verdicts::micro_time;

    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl Write for Log {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// What `--log-format json` writes.
    fn written(note: Note) -> Value {
        let log = Log::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_writer(move || writer.clone())
            .json()
            .flatten_event(true)
            .finish();
        let rollout = Key::new("shop", "payment");
        tracing::subscriber::with_default(subscriber, || {
            tell(&Metrics::default(), &rollout, &[note]);
        });
        let bytes = log.0.lock().unwrap().clone();
        serde_json::from_slice(&bytes).unwrap()
    }

    #[test]
    fn a_decision_is_a_line_of_json_with_all_that_was_known() {
        let mut note = Note::warning(Reason::RolledBack, "weight 0".to_owned());
        note.decision = Some(Box::new(DecisionRecord {
            at: micro_time(Time(0)),
            decision: "RolledBack".to_owned(),
            revision: "6f9c".to_owned(),
            run: 7,
            weight: 0,
            requests: 40,
            by: Some("alice".to_owned()),
            judged: "guard: 9 of 40".to_owned(),
            guard: Some(GuardStatus {
                requests: 40,
                failed: 9,
                stable_requests: 400,
                stable_failed: 1,
                evidence: "100%".to_owned(),
                foresight: None,
            }),
            exposure: Some(ExposureStatus {
                spent: "1.2s".to_owned(),
                budget: "13.0s".to_owned(),
                undetected: "8.3%".to_owned(),
            }),
        }));
        let line = written(note);
        for (field, value) in [
            ("level", Value::from("WARN")),
            ("namespace", Value::from("shop")),
            ("rollout", Value::from("payment")),
            ("reason", Value::from("RolledBack")),
            ("message", Value::from("weight 0")),
            ("run", Value::from(7)),
            ("revision", Value::from("6f9c")),
            ("weight", Value::from(0)),
            ("asked_by", Value::from("alice")),
            ("judged_requests", Value::from(40)),
            ("judged", Value::from("guard: 9 of 40")),
            ("guard_requests", Value::from(40)),
            ("guard_failed", Value::from(9)),
            ("guard_stable_requests", Value::from(400)),
            ("guard_stable_failed", Value::from(1)),
            ("guard_evidence", Value::from("100%")),
            ("exposure_spent", Value::from("1.2s")),
            ("exposure_budget", Value::from("13.0s")),
            ("exposure_undetected", Value::from("8.3%")),
        ] {
            assert_eq!(line[field], value, "{field} of {line}");
        }
    }

    #[test]
    fn what_is_no_decision_has_no_empty_fields() {
        let line = written(Note::normal(Reason::SoakStarted, "soaking".to_owned()));
        let fields = line.as_object().unwrap();
        assert!(!fields.contains_key("run"), "{line}");
        assert_eq!(line["level"], "INFO");
    }
}
