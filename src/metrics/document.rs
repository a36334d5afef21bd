//! The reference page of metrics. In: the table. Out: Markdown, committed as `docs/metrics.md` and held to the table by a test.

use std::fmt::Write as _;

use super::table::{Buckets, LEFT_OUT, PROCESS_TABLE, Spec, TABLE};

const HEAD: &str = "# Metrics

Generated from the table in `src/metrics/table.rs`: change it there, then run `ISOBAR_UPDATE=1 cargo test --test suite metrics_page`.

Served at `/metrics` over HTTPS to callers that may `get` that path (manifests/base grants it to nobody; manifests/monitoring to Prometheus).
Names, labels and buckets of `scheduler_*`, `rest_client_*` and `leader_election_*` are kube-scheduler's, so its dashboards work.
Series whose labels are known beforehand exist from the start; others begin with their first report.
";

/// The page.
pub fn reference_page() -> String {
    let mut page = HEAD.to_owned();
    let groups: [(&str, &[&str]); 4] = [
        ("Scheduling, by kube-scheduler's names", &["scheduler_"]),
        ("Talk with API servers, leader election", &["rest_client_", "leader_election_"]),
        ("Isobar's own", &["isobar_"]),
        ("The process", &["process_"]),
    ];
    for (title, prefixes) in groups {
        let _infallible = write!(page, "\n## {title}\n\n| name | kind | labels | buckets | level | meaning |\n|---|---|---|---|---|---|\n");
        for spec in TABLE.iter().copied().chain(PROCESS_TABLE).filter(|spec| prefixes.iter().any(|prefix| spec.name.starts_with(prefix))) {
            page.push_str(&row(spec));
        }
    }
    page.push_str("\n## kube-scheduler's metrics that Isobar does not have\n\n| name | why |\n|---|---|\n");
    for (names, why) in LEFT_OUT {
        let _infallible = writeln!(page, "| `{}` | {why} |", names.replace(", ", "`, `"));
    }
    page
}

fn row(spec: &Spec) -> String {
    let labels = spec.labels.iter().map(|label| format!("`{label}`")).collect::<Vec<_>>().join(" ");
    let buckets = match spec.buckets {
        Buckets::None => String::new(),
        Buckets::Exponential { start, factor, count } => format!("{start} x {factor}^n, {count} of them"),
        Buckets::Explicit(bounds) => bounds.iter().map(f64::to_string).collect::<Vec<_>>().join(" "),
    };
    format!("| `{}` | {} | {labels} | {buckets} | {} | {} |\n", spec.name, spec.kind.word(), spec.stability.word(), spec.help)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_has_exactly_one_row() {
        let page = reference_page();
        for spec in TABLE.iter().copied().chain(PROCESS_TABLE) {
            assert_eq!(page.matches(&format!("| `{}` |", spec.name)).count(), 1, "{}", spec.name);
        }
    }
}
