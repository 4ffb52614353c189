#include "heat_map.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <set>

#include "result_json.h"
#include "wrapped.h"

namespace spillway::aio_bench {
namespace {

constexpr int kCellWidth = 56, kCellHeight = 26;
constexpr int kLeft = 60, kTop = 44, kBottom = 44, kGap = 24;  // around a panel's cells
constexpr int kMargin = 20;                                    // beside titles
constexpr int kLeastWidth = 760;
// Fonts differ from viewer to viewer; a character of a wide sans-serif takes so much of the size.
constexpr double kCharacterWidth = 0.62, kBoldCharacterWidth = 0.72;

// For XML: a path may hold any bytes, those that are no UTF-8 become U+FFFD.
std::string escaped(const std::string& text) {
  std::string safe;
  for (const char c : nlohmann::json::parse(dumped(text)).get<std::string>()) {
    if (c == '&') {
      safe += "&amp;";
    } else if (c == '<') {
      safe += "&lt;";
    } else if (c == '>') {
      safe += "&gt;";
    } else if (c == '"') {
      safe += "&quot;";
    } else {
      safe += static_cast<unsigned char>(c) < 0x20 ? ' ' : c;
    }
  }
  return safe;
}

struct Colour {
  double red, green, blue;
};

// Dark blue to yellow, lighter all the way, so that it can be read in grey too.
Colour colour_of(double share) {
  constexpr std::array<Colour, 5> kStops = {
      {{43, 31, 91}, {52, 87, 140}, {38, 140, 140}, {110, 195, 95}, {250, 230, 60}}};
  const double at = std::clamp(share, 0.0, 1.0) * (kStops.size() - 1);
  const auto low = std::min<std::size_t>(static_cast<std::size_t>(at), kStops.size() - 2);
  const double part = at - static_cast<double>(low);
  const auto between = [&](double Colour::*one) {
    return kStops[low].*one + part * (kStops[low + 1].*one - kStops[low].*one);
  };
  return {between(&Colour::red), between(&Colour::green), between(&Colour::blue)};
}

std::string hex(const Colour& c) {
  return fmt::format("#{:02x}{:02x}{:02x}", static_cast<int>(c.red), static_cast<int>(c.green),
                     static_cast<int>(c.blue));
}

std::string text_at(int x, int y, const std::string& style, const std::string& text) {
  return fmt::format("<text x=\"{}\" y=\"{}\" {}>{}</text>\n", x, y, style, escaped(text));
}

// A workload with a number of threads: its blocks and depths, its cells.
class Panel {
 public:
  Panel(const Report& report, Workload workload, std::uint32_t threads)
      : report_(report), workload_(workload), threads_(threads) {
    for (const CellResult& cell : report.results) {
      if (cell.workload == workload) fastest_ = std::max(fastest_, cell.gb_per_second());
      if (cell.workload == workload && cell.setting.thread_count == threads) ++measured_;
      blocks_.insert(cell.setting.block_size_bytes);
      depths_.insert(cell.setting.queue_depth);
    }
  }
  // The search measures reads and writes of a few settings only, which make no map.
  bool worth_drawing() const { return 4 * measured_ >= blocks_.size() * depths_.size(); }
  int width() const { return kLeft + static_cast<int>(blocks_.size()) * kCellWidth + kGap; }
  int height() const { return kTop + static_cast<int>(depths_.size()) * kCellHeight + kBottom; }

  std::string draw(int x, int y) const {
    std::string svg = text_at(
        x + kLeft, y + kTop - 12, "font-weight=\"bold\"",
        fmt::format("{}, {} thread{}", name_of(workload_), threads_, threads_ == 1 ? "" : "s"));
    int row = static_cast<int>(depths_.size());
    for (const std::uint32_t depth : depths_) {
      const int top = y + kTop + --row * kCellHeight;
      svg += text_at(x + kLeft - 8, top + 17, "text-anchor=\"end\"", std::to_string(depth));
      int left = x + kLeft;
      for (const std::uint32_t block : blocks_) {
        svg += cell({block, depth, threads_}, left, top);
        left += kCellWidth;
      }
    }
    int left = x + kLeft + kCellWidth / 2;
    const int below = y + kTop + static_cast<int>(depths_.size()) * kCellHeight;
    for (const std::uint32_t block : blocks_) {
      svg += text_at(left, below + 16, "text-anchor=\"middle\"", short_size(block));
      left += kCellWidth;
    }
    svg += text_at(x + kLeft, below + 32, "fill=\"#555\"", "block size; depth upwards");
    return svg;
  }

 private:
  std::string cell(const Setting& setting, int x, int y) const {
    const CellResult* found = find(report_.results, workload_, setting);
    const double rate = found == nullptr ? 0 : found->gb_per_second();
    const double share = found == nullptr ? 0 : rate / fastest_;
    const bool marked = setting == report_.recommendation.setting && found != nullptr;
    std::string svg = fmt::format(
        "<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" fill=\"{}\" stroke=\"{}\" "
        "stroke-width=\"{}\"/>\n",
        x + 1, y + 1, kCellWidth - 2, kCellHeight - 2,
        found == nullptr ? "#eeeeee" : hex(colour_of(share)), marked ? "#d01010" : "none",
        marked ? 3 : 0);
    if (found == nullptr) return svg;
    return svg + text_at(x + kCellWidth / 2, y + 17,
                         fmt::format("text-anchor=\"middle\" fill=\"{}\"",
                                     share > 0.6 ? "#000000" : "#ffffff"),
                         rate_text(rate));
  }

  const Report& report_;
  const Workload workload_;
  const std::uint32_t threads_;
  double fastest_ = 0;
  std::size_t measured_ = 0;
  std::set<std::uint32_t> blocks_, depths_;
};

// The lines of a heading that fit into `width`, from `y` on, which moves below them.
std::string heading(const std::string& text, int size, bool bold, int width, int& y) {
  const double character = size * (bold ? kBoldCharacterWidth : kCharacterWidth);
  const auto columns = static_cast<std::size_t>((width - 2 * kMargin) / character);
  std::string svg;
  for (const std::string& line : wrapped(text, columns)) {
    y += size + 5;
    svg += text_at(
        kMargin, y,
        fmt::format("font-size=\"{}\" {}", size, bold ? "font-weight=\"bold\"" : "fill=\"#555\""),
        line);
  }
  return svg;
}

// Of a target, a row of panels for each number of threads.
std::string draw_panels(const Report& report, int& width, int& y) {
  std::string svg;
  std::set<std::uint32_t> thread_counts;
  for (const CellResult& cell : report.results) thread_counts.insert(cell.setting.thread_count);
  for (const std::uint32_t threads : thread_counts) {
    int x = 0, height = 0;
    for (const Workload workload : {Workload::kMix, Workload::kRead, Workload::kWrite}) {
      const Panel panel(report, workload, threads);
      if (!panel.worth_drawing()) continue;
      svg += panel.draw(x, y);
      x += panel.width();
      height = panel.height();
    }
    width = std::max(width, x);
    y += height;
  }
  return svg;
}

// A target: its headings, as wide as its panels, and those.
std::string draw_report(const Report& report, int& width, int& y) {
  int own_width = kLeastWidth, nowhere = 0;
  draw_panels(report, own_width, nowhere);
  std::string svg =
      heading(report.target.name() + ": GB/s, " + report.target.device(), 16, true, own_width, y);
  svg += heading("framed in red: recommended, " + text_of(report.recommendation.setting) +
                     "; grey: not measured; colours by workload, yellow the fastest",
                 12, false, own_width, y);
  y += 10;
  svg += draw_panels(report, own_width, y);
  width = std::max(width, own_width);
  return svg;
}

}  // namespace

std::string heat_map(const std::vector<Report>& reports) {
  int width = kLeastWidth, height = 5;
  std::string body;
  for (const Report& report : reports) body += draw_report(report, width, height);
  return fmt::format(
             "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
             "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{0}\" height=\"{1}\" "
             "viewBox=\"0 0 {0} {1}\" font-family=\"sans-serif\" font-size=\"12\">\n"
             "<rect width=\"{0}\" height=\"{1}\" fill=\"#ffffff\"/>\n",
             width, height + 10) +
         body + "</svg>\n";
}

}  // namespace spillway::aio_bench
