//! Utilisation over time as a picture. In: what happened. Out: SVG text: CPU of each kind of nodes, GPUs of each model, and pods that wait.

use plotters::coord::Shift;
use plotters::prelude::*;

use super::history::{Amount, History};
use super::run::Outcome;
use super::workloads::MINUTE;

/// Size in pixels.
const SIZE: (u32, u32) = (1000, 820);
const FONT: (&str, u32) = ("sans-serif", 13);
/// One colour a kind of nodes, told apart by people who see red and green alike (Okabe and Ito).
const COLOURS: [RGBColor; 6] = [
    RGBColor(0, 114, 178),
    RGBColor(230, 159, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(213, 94, 0),
];

/// A line of a chart: its name, its colour, and percent or count by minute.
type Line = (String, RGBColor, Vec<(f64, f64)>);

/// The picture.
pub fn svg(outcome: &Outcome) -> Result<String, String> {
    let mut text = String::new();
    {
        let root = SVGBackend::with_string(&mut text, SIZE).into_drawing_area();
        draw(&root, outcome).map_err(|error| format!("the picture cannot be drawn: {error}"))?;
    }
    Ok(text)
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Failure<'a> = DrawingAreaErrorKind<<SVGBackend<'a> as DrawingBackend>::ErrorType>;

fn draw<'a>(root: &Area<'a>, outcome: &Outcome) -> Result<(), Failure<'a>> {
    root.fill(&WHITE)?;
    let minutes = outcome.end_ms / MINUTE;
    let root =
        root.titled(&format!("Isobar demo, seed {}: what was requested of what there is", outcome.options.seed), ("sans-serif", 18))?;
    let parts = root.split_evenly((3, 1));
    let history = &outcome.history;
    let cpu = lines(history, |amount| amount.cpu_milli);
    let gpu = lines(history, |amount| amount.gpus);
    let waiting: Vec<(f64, f64)> = steps(history.moments.iter().map(|moment| (moment.at_ms, count(moment.waiting))));
    let most = waiting.iter().map(|(_, waiting)| *waiting).fold(1.0, f64::max);
    chart(&parts[0], "CPU, percent", minutes, 100.0, &cpu)?;
    chart(&parts[1], "GPUs, percent", minutes, 100.0, &gpu)?;
    chart(&parts[2], "pods that wait for a node", minutes, most * 1.1, &[("waiting".to_owned(), BLACK, waiting)])?;
    root.present()
}

fn chart<'a>(area: &Area<'a>, title: &str, minutes: u64, top: f64, lines: &[Line]) -> Result<(), Failure<'a>> {
    let mut chart = ChartBuilder::on(area)
        .caption(title, FONT)
        .margin(8)
        .margin_right(20)
        .x_label_area_size(28)
        .y_label_area_size(44)
        .build_cartesian_2d(0.0..whole(minutes), 0.0..top)?;
    chart
        .configure_mesh()
        .x_desc("simulated minutes")
        .label_style(FONT)
        .axis_desc_style(FONT)
        .x_label_formatter(&|minute| format!("{minute:.0}"))
        .y_label_formatter(&|value| format!("{value:.0}"))
        .light_line_style(WHITE)
        .draw()?;
    for (name, colour, points) in lines {
        let style = colour.stroke_width(2);
        let colour = *colour;
        chart
            .draw_series(LineSeries::new(points.iter().copied(), style))?
            .label(name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(3)));
    }
    if lines.len() > 1 {
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperRight)
            .background_style(WHITE.mix(0.85))
            .border_style(RGBColor(200, 200, 200))
            .label_font(FONT)
            .draw()?;
    }
    Ok(())
}

/// A line for each kind of nodes that has any of it.
fn lines(history: &History, part: fn(&Amount) -> i64) -> Vec<Line> {
    let kinds: Vec<&String> = history.moments.last().map(|moment| moment.shares.keys().collect()).unwrap_or_default();
    let mut lines = Vec::new();
    for (kind, colour) in kinds.into_iter().zip(COLOURS.into_iter().cycle()) {
        let shares = history.moments.iter().filter_map(|moment| Some((moment.at_ms, moment.shares.get(kind)?)));
        let percents: Vec<(u64, f64)> = shares
            .filter(|(_, share)| part(&share.room) > 0)
            .map(|(at_ms, share)| (at_ms, 100.0 * float(part(&share.used)) / float(part(&share.room))))
            .collect();
        if !percents.is_empty() {
            lines.push((kind.clone(), colour, steps(percents.into_iter())));
        }
    }
    lines
}

/// A value holds until the next one: two points a change, at most one change each few seconds, which is finer than a pixel.
fn steps(values: impl Iterator<Item = (u64, f64)>) -> Vec<(f64, f64)> {
    const FINEST_MS: u64 = 3_000;
    let mut points: Vec<(f64, f64)> = Vec::new();
    let mut last_slot = None;
    for (at_ms, value) in values {
        let minute = whole(at_ms) / whole(MINUTE);
        if last_slot == Some(at_ms / FINEST_MS) {
            if let Some(point) = points.last_mut() {
                point.1 = value;
            }
            continue;
        }
        last_slot = Some(at_ms / FINEST_MS);
        if let Some((_, before)) = points.last().copied() {
            points.push((minute, before));
        }
        points.push((minute, value));
    }
    points
}

#[allow(clippy::cast_precision_loss)] // pixels
fn float(number: i64) -> f64 {
    number as f64
}

#[allow(clippy::cast_precision_loss)] // pixels
fn whole(number: u64) -> f64 {
    number as f64
}

#[allow(clippy::cast_precision_loss)] // pixels
fn count(number: usize) -> f64 {
    number as f64
}
