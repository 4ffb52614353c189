#include "tools/spillway/trace/drawing.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "tools/spillway/trace/summary.h"

namespace spillway::tools {
namespace {

using trainer::Lane;

constexpr double kLeft = 118, kRight = 22, kPlot = 1060;  // pixels
constexpr double kTop = 66, kRow = 34, kGap = 8;
constexpr double kFinest = 0.34;   // what is nearer is drawn together
constexpr double kRateBins = 530;  // of the rate of reads and writes

struct Colour {
  const char* style;  // class of the style sheet
  const char* what;
};

constexpr Colour kForward = {"forward", "forward"};
constexpr Colour kBackward = {"backward", "backward"};
constexpr Colour kOther = {"other", "other computing"};
constexpr Colour kUpdate = {"update", "update"};

// Each is readable on white and on the dark background, which the viewer's own setting chooses.
constexpr const char* kStyle =
    "<style>\n"
    "text { font: 12px system-ui, sans-serif; fill: #374151 }\n"
    ".title { font-size: 16px; font-weight: 600 } .small { font-size: 10.5px }\n"
    ".in { fill: #fff; font-size: 10.5px } .page { fill: #fff } .row { fill: #f1f3f6 }\n"
    ".grid { stroke: #d4d8de; stroke-width: 0.7 }\n"
    ".forward { fill: #4c8dd6 } .backward { fill: #2f5fa8 } .other { fill: #7c93ad }\n"
    ".update { fill: #d9822b } .copy { fill: #8f6bc9 } .read { fill: #2a9d6f }\n"
    ".write { fill: #c94f6d } .wait { fill: #98a2ae } .step { fill: #6b7684 }\n"
    ".busy { opacity: 0.28 }\n"
    "@media (prefers-color-scheme: dark) {\n"
    "text { fill: #c9d1d9 } .in { fill: #fff } .page { fill: #0f141a } .row { fill: #1a2129 }\n"
    ".grid { stroke: #39424d } .forward { fill: #5b9be3 } .backward { fill: #3d72c4 }\n"
    "}\n</style>\n";

std::string escaped(const std::string& text) {
  std::string safe;
  for (const char c : text) {
    if (c == '&') {
      safe += "&amp;";
    } else if (c == '<') {
      safe += "&lt;";
    } else {
      safe += static_cast<unsigned char>(c) < 0x20 ? ' ' : c;
    }
  }
  return safe;
}

std::string text_at(double x, double y, const char* attributes, const std::string& text) {
  return fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" {}>{}</text>\n", x, y, attributes,
                     escaped(text));
}

Colour colour_of(Lane lane, const std::string& name) {
  if (lane == Lane::kCompute) {
    if (name.starts_with("forward")) return kForward;
    return name.starts_with("backward") ? kBackward : kOther;
  }
  if (lane == Lane::kOptimizer) return kUpdate;
  return {trainer::name_of(lane), trainer::name_of(lane)};
}

// A step of the axis that is 1, 2 or 5 times a power of ten, with 6 to 15 of them.
double tick_of(double seconds) {
  const double power = std::pow(10, std::floor(std::log10(seconds / 6)));
  for (const double factor : {5.0, 2.0}) {
    if (seconds / (power * factor) >= 6) return power * factor;
  }
  return power;
}

class Drawing {
 public:
  explicit Drawing(const TraceFile& trace)
      : trace_(trace), seconds_(std::max(trace.seconds, 1e-9)) {
    for (const Lane lane : {Lane::kStep, Lane::kCompute, Lane::kOptimizer, Lane::kCopy, Lane::kRead,
                            Lane::kWrite, Lane::kWait}) {
      if (!trace.lane(lane).empty()) rows_.push_back(lane);
    }
    for (const Lane lane : {Lane::kRead, Lane::kWrite}) {
      for (const double rate : rates(lane)) highest_rate_ = std::max(highest_rate_, rate);
    }
  }

  std::string draw() {
    const double bottom = kTop + static_cast<double>(rows_.size()) * (kRow + kGap);
    const double width = kLeft + kPlot + kRight, height = bottom + 30;
    std::string svg = fmt::format(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {0} {1}\" width=\"{0}\" "
        "height=\"{1}\">\n{2}<rect width=\"100%\" height=\"100%\" class=\"page\"/>\n",
        width, height, kStyle);
    svg += text_at(kLeft, 24, "class=\"title\"",
                   fmt::format("{}: {:.3f} s", trace_.process, trace_.seconds));
    double y = kTop;
    for (const Lane lane : rows_) {
      svg += row(lane, y);
      y += kRow + kGap;
    }
    return svg + axis(bottom) + legend() + "</svg>\n";
  }

 private:
  double x_of(double seconds) const { return kLeft + kPlot * seconds / seconds_; }

  std::string row(Lane lane, double y) {
    const auto& spans = trace_.lane(lane);
    std::string svg =
        fmt::format("<rect x=\"{}\" y=\"{:.1f}\" width=\"{}\" height=\"{}\" class=\"row\"/>\n",
                    kLeft, y, kPlot, kRow);
    svg += text_at(kLeft - 8, y + 15, "text-anchor=\"end\"", trainer::name_of(lane));
    if (lane != Lane::kStep) {
      svg += text_at(kLeft - 8, y + 28, "text-anchor=\"end\" class=\"small\"",
                     fmt::format("{:.0f}% busy", 100 * length(busy(spans)) / seconds_));
    }
    const bool io = lane == Lane::kRead || lane == Lane::kWrite;
    if (io) svg += "<g class=\"busy\">\n";
    svg += boxes(lane, spans, y);
    if (io) svg += "</g>\n" + rate_area(lane, y);
    return svg;
  }

  // Spans nearer to each other than a viewer can see become one box without a name.
  std::string boxes(Lane lane, const std::vector<TracedSpan>& spans, double y) {
    std::string svg;
    for (std::size_t i = 0; i < spans.size();) {
      const Colour colour = colour_of(lane, spans[i].name);
      double end = spans[i].end_s;
      std::size_t next = i + 1;
      const double finest_s = kFinest * seconds_ / kPlot;
      while (lane != Lane::kStep && next < spans.size() && spans[next].start_s < end + finest_s &&
             spans[next].end_s - spans[next].start_s < 20 * finest_s &&
             colour_of(lane, spans[next].name).style == colour.style) {
        end = std::max(end, spans[next++].end_s);
      }
      const double left = x_of(spans[i].start_s);
      const double width = std::max(x_of(end) - left, kFinest);
      const double inset = lane == Lane::kStep ? 10 : 3;
      svg += fmt::format(
          "<rect x=\"{:.2f}\" y=\"{:.1f}\" width=\"{:.2f}\" height=\"{:.1f}\" class=\"{}\"/>\n",
          left, y + inset, std::max(width - 0.4, kFinest), kRow - 2 * inset, colour.style);
      seen(colour);
      const double wanted = 6.0 * static_cast<double>(spans[i].name.size()) + 6;
      if (next == i + 1 && width > wanted) {
        svg += text_at(left + width / 2, y + kRow / 2 + 4, "text-anchor=\"middle\" class=\"in\"",
                       spans[i].name);
      }
      i = next;
    }
    return svg;
  }

  // Bytes a second in each of kRateBins parts of the time; a span's bytes are spread over it.
  std::vector<double> rates(Lane lane) const {
    std::vector<double> bins(static_cast<std::size_t>(kRateBins), 0.0);
    const double bin_s = seconds_ / kRateBins;
    for (const TracedSpan& span : trace_.lane(lane)) {
      const double duration = std::max(span.end_s - span.start_s, 1e-9);
      const auto first = static_cast<std::size_t>(span.start_s / bin_s);
      for (std::size_t bin = first; bin < bins.size(); ++bin) {
        const double from = std::max(span.start_s, static_cast<double>(bin) * bin_s);
        const double to = std::min(span.start_s + duration, static_cast<double>(bin + 1) * bin_s);
        if (to <= from && bin > first) break;
        bins[bin] += static_cast<double>(span.bytes) * std::max(to - from, 0.0) / duration / bin_s;
      }
    }
    return bins;
  }

  std::string rate_area(Lane lane, double y) const {
    if (highest_rate_ <= 0) return "";
    std::string path = fmt::format("M{:.1f} {:.1f}", kLeft, y + kRow);
    const std::vector<double> bins = rates(lane);
    for (std::size_t bin = 0; bin < bins.size(); ++bin) {
      const double top = y + kRow - (kRow - 3) * bins[bin] / highest_rate_;
      path += fmt::format("L{:.1f} {:.1f}",
                          kLeft + kPlot * (static_cast<double>(bin) + 0.5) / kRateBins, top);
    }
    return fmt::format("<path d=\"{}L{:.1f} {:.1f}Z\" class=\"{}\"/>\n", path, kLeft + kPlot,
                       y + kRow, trainer::name_of(lane));
  }

  std::string axis(double bottom) const {
    const double tick = tick_of(seconds_);
    const bool in_ms = seconds_ < 1;
    std::string svg;
    for (int i = 0; i * tick <= seconds_; ++i) {
      const double x = x_of(i * tick);
      svg += fmt::format(
          "<line x1=\"{0:.1f}\" y1=\"{1}\" x2=\"{0:.1f}\" y2=\"{2:.1f}\" class=\"grid\"/>\n", x,
          kTop - 4, bottom - kGap + 4);
      svg += text_at(
          x, bottom + 10, "text-anchor=\"middle\"",
          in_ms ? fmt::format("{:.4g} ms", i * tick * 1e3) : fmt::format("{:.4g} s", i * tick));
    }
    return svg;
  }

  std::string legend() const {
    std::string svg;
    double x = kLeft;
    for (const Colour& colour : seen_) {
      svg += fmt::format("<rect x=\"{:.1f}\" y=\"37\" width=\"12\" height=\"12\" class=\"{}\"/>\n",
                         x, colour.style);
      svg += text_at(x + 17, 47, "", colour.what);
      x += 17 + 7.0 * static_cast<double>(std::string(colour.what).size()) + 20;
    }
    if (highest_rate_ > 0) {
      svg += text_at(
          x, 47, "",
          fmt::format("height of read and write: rate, up to {:.2f} GB/s", highest_rate_ / 1e9));
    }
    return svg;
  }

  void seen(const Colour& colour) {
    const bool known = std::any_of(seen_.begin(), seen_.end(), [&](const Colour& other) {
      return std::string(other.style) == colour.style;
    });
    if (!known && std::string(colour.style) != "step") seen_.push_back(colour);
  }

  const TraceFile& trace_;
  const double seconds_;
  std::vector<Lane> rows_;
  std::vector<Colour> seen_;
  double highest_rate_ = 0;
};

}  // namespace

std::string draw_trace(const TraceFile& trace) { return Drawing(trace).draw(); }

}  // namespace spillway::tools
