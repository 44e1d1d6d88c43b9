//! Users' PromQL: placeholders and syntax.

use promql_parser::parser::{self, value::ValueType};

/// What stands in a query for something that is only known when it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Placeholder {
    CanaryRevision,
    StableRevision,
    Namespace,
    Service,
    Deployment,
    Interval,
}

impl Placeholder {
    pub const ALL: [Placeholder; 6] = [
        Placeholder::CanaryRevision,
        Placeholder::StableRevision,
        Placeholder::Namespace,
        Placeholder::Service,
        Placeholder::Deployment,
        Placeholder::Interval,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Placeholder::CanaryRevision => "canary.revision",
            Placeholder::StableRevision => "stable.revision",
            Placeholder::Namespace => "namespace",
            Placeholder::Service => "service",
            Placeholder::Deployment => "deployment",
            Placeholder::Interval => "interval",
        }
    }

    /// Something that may stand in its place, for a look at the syntax.
    fn example(self) -> &'static str {
        match self {
            Placeholder::CanaryRevision | Placeholder::StableRevision => "0123456789",
            Placeholder::Namespace | Placeholder::Service | Placeholder::Deployment => "name",
            Placeholder::Interval => "30s",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    #[error("'{{{{ {0} }}}}' is no placeholder; there are {names}", names = placeholder_names())]
    UnknownPlaceholder(String),
    #[error("'{{{{' without '}}}}'")]
    OpenPlaceholder,
    #[error("no PromQL: {0}")]
    Syntax(String),
    #[error("gives a {0}, and has to give one number: an instant vector or a scalar")]
    Type(&'static str),
}

/// The query with its placeholders replaced.
pub fn render(query: &str, value: impl Fn(Placeholder) -> String) -> Result<String, QueryError> {
    let mut rendered = String::with_capacity(query.len());
    let mut rest = query;
    while let Some((before, after)) = rest.split_once("{{") {
        let (name, tail) = after.split_once("}}").ok_or(QueryError::OpenPlaceholder)?;
        let name = name.trim();
        let placeholder = Placeholder::ALL
            .into_iter()
            .find(|placeholder| placeholder.name() == name)
            .ok_or_else(|| QueryError::UnknownPlaceholder(name.to_owned()))?;
        rendered.push_str(before);
        rendered.push_str(&value(placeholder));
        rest = tail;
    }
    rendered.push_str(rest);
    Ok(rendered)
}

/// Whether the query can run at all.
pub fn check(query: &str) -> Result<(), QueryError> {
    let rendered = render(query, |placeholder| placeholder.example().to_owned())?;
    match parser::parse(&rendered)
        .map_err(QueryError::Syntax)?
        .value_type()
    {
        ValueType::Vector | ValueType::Scalar => Ok(()),
        ValueType::Matrix => Err(QueryError::Type("range vector")),
        ValueType::String => Err(QueryError::Type("string")),
    }
}

fn placeholder_names() -> String {
    Placeholder::ALL
        .map(|placeholder| format!("'{{{{ {} }}}}'", placeholder.name()))
        .join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_of_the_documentation_are_right() {
        for query in [
            r#"max(queue_depth{revision="{{ canary.revision }}"})"#,
            r#"sum(rate(errors{ns="{{namespace}}",svc="{{ service }}"}[{{ interval }}])) / sum(rate(all[{{interval}}]))"#,
            "1",
            "scalar(up)",
            r#"x{a="{{ stable.revision }}",b="{{ deployment }}"} or vector(0)"#,
        ] {
            assert_eq!(check(query), Ok(()), "{query}");
        }
    }

    #[test]
    fn each_placeholder_gets_its_own_value() {
        let query = "{{ canary.revision }} {{stable.revision}} {{  namespace  }} {{service}} {{deployment}} {{interval}}";
        let rendered = render(query, |placeholder| placeholder.name().to_uppercase()).unwrap();
        assert_eq!(
            rendered,
            "CANARY.REVISION STABLE.REVISION NAMESPACE SERVICE DEPLOYMENT INTERVAL"
        );
    }

    #[test]
    fn an_unknown_placeholder_is_named_with_those_that_exist() {
        let error = check(r#"x{r="{{ canary.rev }}"}"#).unwrap_err().to_string();
        assert!(
            error.starts_with(
                "'{{ canary.rev }}' is no placeholder; there are '{{ canary.revision }}', "
            ),
            "{error}"
        );
        assert_eq!(check("x{{").unwrap_err().to_string(), "'{{' without '}}'");
    }

    #[test]
    fn nonsense_and_other_types_are_refused() {
        assert!(matches!(check("sum("), Err(QueryError::Syntax(_))));
        assert!(matches!(check(""), Err(QueryError::Syntax(_))));
        assert_eq!(check("x[5m]"), Err(QueryError::Type("range vector")));
        assert_eq!(check("\"x\""), Err(QueryError::Type("string")));
    }

    #[test]
    fn the_longest_query_nested_as_deep_as_it_can_be_is_only_another_query() {
        let nested = format!("{}1{}", "(".repeat(2047), ")".repeat(2047));
        assert_eq!(check(&nested), Ok(()));
        assert!(check(&"(".repeat(4096)).is_err());
        let _ = check(&"-".repeat(4096));
        let _ = check(&"sum(".repeat(1024));
    }
}
