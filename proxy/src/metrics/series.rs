//! Series in the text format.

use std::fmt;
use std::sync::Arc;

use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use traffic_core::contract::label;
use traffic_core::outcome::Class;

use super::classes::ByClass;
use super::histogram::Histogram;

/// Keys and values of one series.
pub(super) type Labels<'a> = Vec<(&'a str, String)>;

/// A counter for each class, of each of `series`.
pub(super) fn by_class<T>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    series: &[(Labels<'_>, T)],
    counters: impl Fn(&T) -> &ByClass,
) -> fmt::Result {
    let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    for (labels, one) in series {
        for class in Class::ALL {
            let mut labels = labels.clone();
            labels.push((label::CLASS, class.as_str().to_owned()));
            metric
                .encode_family(&labels)?
                .encode_counter::<NoLabelSet, _, f64>(&counters(one).get(class), None)?;
        }
    }
    Ok(())
}

/// A counter of each of `series`.
pub(super) fn counted<T>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    series: &[(Labels<'_>, T)],
    counter: impl Fn(&T) -> u64,
) -> fmt::Result {
    let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    for (labels, one) in series {
        metric
            .encode_family(labels)?
            .encode_counter::<NoLabelSet, _, f64>(&counter(one), None)?;
    }
    Ok(())
}

/// A histogram of each of `series`.
pub(super) fn times<T>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    series: &[(Labels<'_>, Arc<T>)],
    histogram: impl Fn(&T) -> &Histogram,
) -> fmt::Result {
    let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Histogram)?;
    for (labels, one) in series {
        let reading = histogram(one).read();
        metric
            .encode_family(labels)?
            .encode_histogram::<NoLabelSet>(
                reading.seconds,
                reading.count,
                &reading.buckets,
                None,
            )?;
    }
    Ok(())
}

/// A counter for each reason.
pub(super) fn by_reason(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    counts: impl IntoIterator<Item = (&'static str, u64)>,
) -> fmt::Result {
    let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    for (reason, count) in counts {
        metric
            .encode_family(&[(label::REASON, reason)])?
            .encode_counter::<NoLabelSet, _, f64>(&count, None)?;
    }
    Ok(())
}
