// A peer in C++17 with yaml-cpp, for `fastlib conformance`. It was written from
// docs/reference/protocol.md and docs/how-to/conformance.md, and shares no code with the C++ peers.
//
//   g++ -std=c++17 -o peer peer.cpp -lyaml-cpp
//
// It reads a request a line from its standard input, and answers each with a line. What is wrong
// with a text as YAML is left to yaml-cpp; what is wrong with a message is checked here.

#include <yaml-cpp/yaml.h>

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <limits>
#include <map>
#include <memory>
#include <regex>
#include <set>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace {

// --- JSON lines --------------------------------------------------------------------------------

void append_utf8(std::string& out, std::uint32_t code) {
  if (code < 0x80) {
    out += static_cast<char>(code);
  } else if (code < 0x800) {
    out += static_cast<char>(0xC0 | code >> 6);
    out += static_cast<char>(0x80 | (code & 0x3F));
  } else if (code < 0x10000) {
    out += static_cast<char>(0xE0 | code >> 12);
    out += static_cast<char>(0x80 | (code >> 6 & 0x3F));
    out += static_cast<char>(0x80 | (code & 0x3F));
  } else {
    out += static_cast<char>(0xF0 | code >> 18);
    out += static_cast<char>(0x80 | (code >> 12 & 0x3F));
    out += static_cast<char>(0x80 | (code >> 6 & 0x3F));
    out += static_cast<char>(0x80 | (code & 0x3F));
  }
}

// The two texts of a request. All of it is ASCII, and nothing but texts is in it.
class Request {
 public:
  explicit Request(const std::string& line) : line_(line) {
    while (next_quote()) {
      const std::string key = text();
      if (!next_quote()) throw std::runtime_error("the request is not understood");
      fields_[key] = text();
    }
  }

  const std::string& get(const std::string& key) const { return fields_.at(key); }

 private:
  bool next_quote() {
    at_ = line_.find('"', at_);
    if (at_ == std::string::npos) return false;
    ++at_;
    return true;
  }

  std::uint32_t unit() {
    const auto code = static_cast<std::uint32_t>(std::stoul(line_.substr(at_, 4), nullptr, 16));
    at_ += 4;
    return code;
  }

  std::string text() {
    std::string out;
    while (line_.at(at_) != '"') {
      char c = line_[at_++];
      if (c != '\\') {
        out += c;
        continue;
      }
      c = line_.at(at_++);
      if (c == 'u') {
        std::uint32_t code = unit();
        if (code >= 0xD800 && code < 0xDC00 && line_.compare(at_, 2, "\\u") == 0) {
          at_ += 2;
          code = 0x10000 + ((code - 0xD800) << 10) + (unit() - 0xDC00);
        }
        append_utf8(out, code);
      } else {
        static const std::map<char, char> named = {
            {'n', '\n'}, {'t', '\t'}, {'r', '\r'}, {'b', '\b'}, {'f', '\f'}};
        const auto found = named.find(c);
        out += found == named.end() ? c : found->second;
      }
    }
    ++at_;
    return out;
  }

  const std::string& line_;
  std::size_t at_ = 0;
  std::map<std::string, std::string> fields_;
};

// The length of the UTF-8 character at a place; 0 if there is none.
std::size_t character(const std::string& text, std::size_t at) {
  const auto first = static_cast<unsigned char>(text[at]);
  const std::size_t size = first < 0x80 ? 1 : first < 0xC2 ? 0 : first < 0xE0 ? 2 : first < 0xF0 ? 3
                           : first < 0xF5 ? 4 : 0;
  for (std::size_t next = 1; next < size; ++next)
    if (at + next >= text.size() || (static_cast<unsigned char>(text[at + next]) & 0xC0) != 0x80)
      return 0;
  return size;
}

std::string quoted(const std::string& text) {
  std::string out = "\"";
  for (std::size_t at = 0; at < text.size(); ++at) {
    const char c = text[at];
    const auto byte = static_cast<unsigned char>(c);
    const std::size_t size = character(text, at);
    if (size != 1) {
      out += size == 0 ? "\\ufffd" : text.substr(at, size);
      at += size == 0 ? 0 : size - 1;
      continue;
    }
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (byte < 0x20) {
      char code[8];
      std::snprintf(code, sizeof code, "\\u%04x", byte);
      out += code;
    } else {
      out += c;
    }
  }
  return out + '"';
}

// --- messages ----------------------------------------------------------------------------------

struct Unsupported : std::runtime_error {
  using std::runtime_error::runtime_error;
};

[[noreturn]] void refuse(const std::string& where, const std::string& why) {
  throw std::runtime_error((where.empty() ? "message" : where) + ": " + why);
}

std::string scalar(const YAML::Node& node, const std::string& where) {
  if (!node.IsScalar()) refuse(where, "expected a scalar");
  return node.Scalar();
}

bool is_blank(char c) { return c == ' ' || c == '\t' || c == '\n'; }

std::uint64_t integer(const YAML::Node& node, const std::string& where, std::uint64_t high) {
  std::string text = scalar(node, where);
  while (!text.empty() && is_blank(text.back())) text.pop_back();
  int base = 10;
  std::string digits = text;
  if (text.size() > 1 && text[0] == '0') {
    const bool is_hex = text[1] == 'x' || text[1] == 'X';
    base = is_hex ? 16 : 8;
    digits = text.substr(is_hex ? 2 : 1);
  }
  const char* allowed = base == 16 ? "0123456789abcdefABCDEF" : base == 8 ? "01234567" : "0123456789";
  std::uint64_t value = 0;
  if (digits.empty() || digits.find_first_not_of(allowed) != std::string::npos)
    refuse(where, "expected an integer");
  for (const char c : digits) {
    const int digit = c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10;
    if (value > (high - static_cast<std::uint64_t>(digit)) / static_cast<std::uint64_t>(base))
      refuse(where, "this integer is too large");
    value = value * static_cast<std::uint64_t>(base) + static_cast<std::uint64_t>(digit);
  }
  return value;
}

double number(const YAML::Node& node, const std::string& where) {
  static const std::regex decimal("[-+]?([0-9]+(\\.[0-9]*)?|\\.[0-9]+)([eE][-+]?[0-9]+)?[ \t\n]*");
  static const std::regex infinite("([-+]?)\\.(inf|Inf|INF)|(-?)inf");
  static const std::regex no_number("\\.(nan|NaN|NAN)|nan");
  const std::string text = scalar(node, where);
  if (std::regex_match(text, decimal)) {
    const double value = std::strtod(text.c_str(), nullptr);
    if (std::isinf(value)) refuse(where, "this number is too large");
    return value;
  }
  if (std::regex_match(text, infinite))
    return text[0] == '-' ? -std::numeric_limits<double>::infinity()
                          : std::numeric_limits<double>::infinity();
  if (std::regex_match(text, no_number)) return std::numeric_limits<double>::quiet_NaN();
  refuse(where, "expected a number");
}

bool truth(const YAML::Node& node, const std::string& where) {
  static const std::map<std::string, bool> words = [] {
    std::map<std::string, bool> all;
    for (const auto& [word, value] : std::map<std::string, bool>{{"true", true}, {"yes", true},
             {"on", true}, {"y", true}, {"false", false}, {"no", false}, {"off", false},
             {"n", false}}) {
      std::string upper = word;
      for (char& c : upper) c = static_cast<char>(c - 0x20);
      all[word] = all[upper] = all[upper.substr(0, 1) + word.substr(1)] = value;
    }
    return all;
  }();
  const auto found = words.find(scalar(node, where));
  if (found == words.end()) refuse(where, "expected true or false");
  return found->second;
}

class Shape {
 public:
  virtual ~Shape() = default;
  // Checks a node, and writes what was understood.
  virtual void copy(const YAML::Node& node, YAML::Emitter& out, const std::string& where) const = 0;
};

using ShapePtr = std::shared_ptr<const Shape>;

class Function : public Shape {
 public:
  using Copy = void (*)(const YAML::Node&, YAML::Emitter&, const std::string&);
  explicit Function(Copy copy) : copy_(copy) {}
  void copy(const YAML::Node& node, YAML::Emitter& out, const std::string& where) const override {
    copy_(node, out, where);
  }

 private:
  Copy copy_;
};

class Word : public Shape {
 public:
  explicit Word(std::set<std::string> words) : words_(std::move(words)) {}
  void copy(const YAML::Node& node, YAML::Emitter& out, const std::string& where) const override {
    const std::string text = scalar(node, where);
    if (words_.count(text) == 0) refuse(where, "expected one of some words");
    out << text;
  }

 private:
  std::set<std::string> words_;
};

class List : public Shape {
 public:
  explicit List(ShapePtr item, bool flow = false) : item_(std::move(item)), flow_(flow) {}
  void copy(const YAML::Node& node, YAML::Emitter& out, const std::string& where) const override {
    if (!node.IsSequence()) refuse(where, "expected a list");
    if (flow_) out << YAML::Flow;
    out << YAML::BeginSeq;
    for (const auto& item : node) item_->copy(item, out, where + "[]");
    out << YAML::EndSeq;
  }

 private:
  ShapePtr item_;
  bool flow_;
};

// A mapping with free keys, which may be written as a list of mappings.
class Map : public Shape {
 public:
  explicit Map(ShapePtr value) : value_(std::move(value)) {}
  void copy(const YAML::Node& node, YAML::Emitter& out, const std::string& where) const override {
    std::set<std::string> seen;
    if (node.IsNull()) {  // as the C++ peers write an empty one
      out << YAML::Flow << YAML::BeginMap << YAML::EndMap;
      return;
    }
    out << YAML::BeginMap;
    if (node.IsSequence()) {
      for (const auto& item : node) pairs(item, out, where, seen);
    } else {
      pairs(node, out, where, seen);
    }
    out << YAML::EndMap;
  }

 private:
  void pairs(const YAML::Node& node, YAML::Emitter& out, const std::string& where,
             std::set<std::string>& seen) const {
    if (!node.IsMap()) refuse(where, "expected a mapping");
    for (const auto& pair : node) {
      const std::string key = scalar(pair.first, where);
      if (!seen.insert(key).second) refuse(where, "this key stands there twice");
      out << YAML::Key << key << YAML::Value;
      value_->copy(pair.second, out, where + "." + key);
    }
  }

  ShapePtr value_;
};

struct Field {
  std::string key;
  ShapePtr shape;
  bool required = false;
  std::vector<std::string> other_keys = {};
};

class Record : public Shape {
 public:
  using Fields = std::vector<Field>;
  // At least one of `one_of` must be there; `unsupported` are keys of fastlib alone.
  explicit Record(Fields fields, std::vector<std::string> one_of = {},
                  std::set<std::string> unsupported = {})
      : fields_(std::move(fields)),
        one_of_(std::move(one_of)),
        unsupported_(std::move(unsupported)) {}

  const Fields& fields() const { return fields_; }
  const std::set<std::string>& unsupported() const { return unsupported_; }

  void copy(const YAML::Node& node, YAML::Emitter& out, const std::string& where) const override {
    out << YAML::BeginMap;
    copy_pairs(node, out, where);
    out << YAML::EndMap;
  }

  void copy_pairs(const YAML::Node& node, YAML::Emitter& out, const std::string& where) const {
    // An empty document is an empty message.
    if (!node.IsMap() && !(where.empty() && node.IsNull())) refuse(where, "expected a mapping");
    std::map<std::string, YAML::Node> found;
    std::set<std::string> seen;
    for (const auto& pair : node) {
      if (!pair.first.IsScalar()) refuse(where, "expected text as a key");
      const std::string key = pair.first.Scalar();
      if (unsupported_.count(key) != 0) throw Unsupported(key);
      const std::string name = name_of(key);
      if (!seen.insert(name).second) refuse(where, "this key stands there twice");
      // Null is as good as absent where a key may be absent.
      if (!pair.second.IsNull() || is_required(name)) found[name] = pair.second;
    }
    if (!one_of_.empty()) {
      bool given = false;
      for (const auto& key : one_of_) given = given || found.count(key) != 0;
      if (!given) refuse(where, "needs " + one_of_.front() + " or " + one_of_.back());
    }
    if (found.count("transient") != 0 && truth(found["transient"], where) && found.count("xml") == 0)
      refuse(where, "transient needs xml");
    for (const auto& field : fields_) {
      const auto value = found.find(field.key);
      const std::string here = where.empty() ? field.key : where + "." + field.key;
      if (value == found.end()) {
        if (field.required) refuse(here, "missing");
        continue;
      }
      out << YAML::Key << field.key << YAML::Value;
      field.shape->copy(value->second, out, here);
    }
  }

 private:
  std::string name_of(const std::string& key) const {
    for (const auto& field : fields_)
      for (const auto& other : field.other_keys)
        if (other == key) return field.key;
    return key;
  }

  bool is_required(const std::string& key) const {
    for (const auto& field : fields_)
      if (field.key == key) return field.required;
    return false;
  }

  Fields fields_;
  std::vector<std::string> one_of_;
  std::set<std::string> unsupported_;
};

using RecordPtr = std::shared_ptr<const Record>;

ShapePtr function(Function::Copy copy) { return std::make_shared<Function>(copy); }

void write_number(YAML::Emitter& out, double value) {
  char text[40];
  if (std::isnan(value)) {
    out << ".nan";
  } else if (std::isinf(value)) {
    out << (value < 0 ? "-.inf" : ".inf");
  } else {
    std::snprintf(text, sizeof text, "%.17g", value);
    out << text;
  }
}

const ShapePtr kText = function([](const YAML::Node& node, YAML::Emitter& out,
                                   const std::string& where) {
  if (node.IsNull()) refuse(where, "expected text; got null");
  out << scalar(node, where);
});
const ShapePtr kNothing = function([](const YAML::Node&, YAML::Emitter& out, const std::string&) {
  out << YAML::Null;
});
const ShapePtr kBool = function(
    [](const YAML::Node& node, YAML::Emitter& out, const std::string& where) {
      out << truth(node, where);
    });
const ShapePtr kU32 = function([](const YAML::Node& node, YAML::Emitter& out,
                                  const std::string& where) {
  out << integer(node, where, std::numeric_limits<std::uint32_t>::max());
});
const ShapePtr kU64 = function([](const YAML::Node& node, YAML::Emitter& out,
                                  const std::string& where) {
  out << integer(node, where, std::numeric_limits<std::uint64_t>::max());
});
const ShapePtr kDouble = function(
    [](const YAML::Node& node, YAML::Emitter& out, const std::string& where) {
      write_number(out, number(node, where));
    });
const ShapePtr kPciNumber = function(
    [](const YAML::Node& node, YAML::Emitter& out, const std::string& where) {
      char text[8];
      std::snprintf(text, sizeof text, "0x%04x",
                    static_cast<unsigned>(integer(node, where, 0xFFFF)));
      out << text;
    });
const ShapePtr kPciAddress = function([](const YAML::Node& node, YAML::Emitter& out,
                                         const std::string& where) {
  static const std::regex address(
      "(?:(?:0x)?([0-9a-fA-F]{1,4}):)?(?:0x)?([0-9a-fA-F]{1,2}):(?:0x)?([0-9a-fA-F]{1,2})\\.(?:0x)?([0-7])");
  // As the C++ peers write it, with the device in the place of the domain.
  static const std::regex broken("([0-9a-fA-F]{4}:)([0-9a-fA-F]{2})\\.([0-9a-fA-F]{2})\\.([0-7])");
  std::smatch part;
  std::string text = scalar(node, where);
  if (std::regex_match(text, part, broken))
    text = part[2].str() + ":" + part[3].str() + "." + part[4].str();
  if (!std::regex_match(text, part, address)) refuse(where, "expected a PCI address");
  const auto hex = [](const std::string& digits) {
    return digits.empty() ? 0U : static_cast<unsigned>(std::stoul(digits, nullptr, 16));
  };
  if (hex(part[3]) > 0x1F) refuse(where, "expected a PCI address");
  char full[24];
  std::snprintf(full, sizeof full, "%04x:%02x:%02x.%s", hex(part[1]), hex(part[2]), hex(part[3]),
                part[4].str().c_str());
  out << full;
});

RecordPtr record(Record::Fields fields, std::vector<std::string> one_of = {},
                 std::set<std::string> unsupported = {}) {
  return std::make_shared<Record>(std::move(fields), std::move(one_of), std::move(unsupported));
}

// A timer: seconds, or a mapping of them.
class Timing : public Shape {
 public:
  void copy(const YAML::Node& node, YAML::Emitter& out, const std::string& where) const override {
    if (node.IsMap()) {
      if (!node["started"] != !node["stopped"]) refuse(where, "started and stopped go together");
      parts_->copy(node, out, where);
    } else if (static const std::regex words("wall: *([^ ]+) +started: *([^ ]+) +stopped: *([^ ]+)");
               std::regex_match(scalar(node, where), words)) {
      out << node.Scalar();
    } else {
      write_number(out, number(node, where));
    }
  }

 private:
  RecordPtr parts_ = record({{"wall", kDouble, true}, {"started", kDouble}, {"stopped", kDouble}});
};

// A record whose title is checked, and left out.
class Untitled : public Shape {
 public:
  Untitled(RecordPtr title, RecordPtr shape) : title_(std::move(title)), shape_(std::move(shape)) {}
  void copy(const YAML::Node& node, YAML::Emitter& out, const std::string& where) const override {
    YAML::Emitter checked;
    title_->copy(node, checked, where);
    shape_->copy(node, out, where);
  }

 private:
  RecordPtr title_;
  RecordPtr shape_;
};

class SwapWith : public Shape {
 public:
  explicit SwapWith(RecordPtr shape) : shape_(std::move(shape)) {}
  void copy(const YAML::Node& node, YAML::Emitter& out, const std::string& where) const override {
    if (node.IsScalar()) {  // as old messages have it
      out << YAML::BeginMap << YAML::Key << "vm-name" << YAML::Value << node.Scalar() << YAML::EndMap;
    } else {
      shape_->copy(node, out, where);
    }
  }

 private:
  RecordPtr shape_;
};

// A container: its title says of which type its members are, and where they stand.
struct Variant {
  RecordPtr member;
  std::string list_key;  // empty if the member is inline
  bool reads_both = false;
};

class Container : public Shape {
 public:
  Container(std::string title, std::map<std::string, Variant> variants, Record::Fields own,
            std::set<std::string> unsupported, std::set<std::string> unsupported_titles)
      : title_(std::move(title)),
        variants_(std::move(variants)),
        own_(std::move(own)),
        unsupported_(std::move(unsupported)),
        unsupported_titles_(std::move(unsupported_titles)) {}

  void copy(const YAML::Node& node, YAML::Emitter& out, const std::string& where) const override {
    if (!node.IsMap() || !node[title_]) refuse(where, "the title is missing");
    if (node[title_].IsNull()) refuse(where, "expected a title; got null");
    const std::string title = scalar(node[title_], title_);
    if (unsupported_titles_.count(title) != 0) throw Unsupported(title);
    auto variant = variants_.find(title);
    if (variant == variants_.end()) variant = variants_.find("");
    if (variant == variants_.end()) refuse(title_, "unknown title");
    const auto& [member, list_key, reads_both] = variant->second;
    const ShapePtr text = kText;
    Record::Fields fields = {{title_, text, true}};
    const std::string key = list_key.empty() ? "list" : list_key;
    const bool has_list = static_cast<bool>(node[key]);
    const bool listed = !list_key.empty() && !(reads_both && !has_list);
    if (list_key.empty() && reads_both && has_list) {
      copy_inline(node, out, title, *member);
      return;
    }
    if (listed) {
      fields.push_back({key, std::make_shared<List>(member), true});
    } else {
      for (const auto& field : member->fields()) fields.push_back(field);
    }
    for (const auto& field : own_) {
      bool known = false;
      for (const auto& other : fields) known = known || other.key == field.key;
      if (!known) fields.push_back(field);
    }
    std::set<std::string> unsupported = unsupported_;
    if (!listed) unsupported.insert(member->unsupported().begin(), member->unsupported().end());
    Record(fields, {}, unsupported).copy(node, out, where);
  }

 private:
  // `quit` with a list of one entry, which may be null, as the C++ peers write it.
  void copy_inline(const YAML::Node& node, YAML::Emitter& out, const std::string& title,
                   const Record& member) const {
    const YAML::Node list = node["list"];
    if (!list.IsSequence() || list.size() != 1) refuse("list", "expected a list of one entry");
    Record::Fields own = {{title_, kText, true}, {"list", kNothing}};
    own.insert(own.end(), own_.begin(), own_.end());
    YAML::Emitter nothing;
    Record(own, {}, unsupported_).copy(node, nothing, "");
    YAML::Node all(YAML::NodeType::Map);
    all[title_] = title;
    Record::Fields fields = {{title_, kText, true}};
    for (const auto& field : member.fields()) fields.push_back(field);
    if (!list[0].IsNull()) {
      YAML::Emitter checked;
      member.copy(list[0], checked, "list[]");
      for (const auto& pair : list[0]) all[pair.first.Scalar()] = pair.second;
    }
    for (const auto& field : own_) {
      if (node[field.key]) all[field.key] = node[field.key];
      bool known = false;
      for (const auto& other : fields) known = known || other.key == field.key;
      if (!known) fields.push_back(field);
    }
    Record(fields).copy(all, out, "");
  }

  std::string title_;
  std::map<std::string, Variant> variants_;
  Record::Fields own_;
  std::set<std::string> unsupported_;
  std::set<std::string> unsupported_titles_;
};

std::map<std::string, ShapePtr> types() {
  const ShapePtr u32_map = std::make_shared<List>(std::make_shared<List>(kU32, true), true);
  const auto title = [](const std::string& text) -> ShapePtr {
    return std::make_shared<Word>(std::set<std::string>{text});
  };
  const ShapePtr texts = std::make_shared<List>(kText);
  const auto with_task = [](Record::Fields own) {
    Record::Fields all = {{"concurrent-execution", kBool}, {"time-measurement", kBool}, {"driver", kText}};
    all.insert(all.end(), own.begin(), own.end());
    return all;
  };
  const std::set<std::string> options = {"bandwidth-limit", "max-downtime", "timeout", "on-timeout",
                                         "auto-converge", "parallel-connections", "compression",
                                         "encrypted", "copy-storage", "copy-disks",
                                         "source-disks"};
  const auto with_options = [](Record::Fields own) {
    const Record::Fields more = {
        {"retry_counter", kU32, false, {"retry-counter"}},
        {"migration-type", std::make_shared<Word>(std::set<std::string>{"live", "warm", "offline"})},
        {"rdma-migration", kBool}, {"pscom-hook-procs", kText}, {"transport", kText}};
    own.insert(own.end(), more.begin(), more.end());
    return own;
  };

  const auto swap_with = record({{"vm-name", kText, true}, {"pscom-hook-procs", kText}, {"vcpu-map", u32_map}},
                                {}, {"memnode-map"});
  auto migrate_fields = with_options({});
  migrate_fields.push_back({"swap-with", std::make_shared<SwapWith>(swap_with)});
  migrate_fields.push_back({"vcpu-map", u32_map});
  auto migrate_options = options;
  migrate_options.insert("memnode-map");
  const auto migrate_parameter = record(migrate_fields, {}, migrate_options);
  const auto evacuate_parameter = record(
      with_options({{"mode", std::make_shared<Word>(std::set<std::string>{"auto", "compact", "scatter"})},
                    {"overbooking", kBool}}),
      {}, options);
  const auto pci_id = record({{"vendor", kPciNumber, true}, {"device", kPciNumber, true}});
  const auto pci_address = record({{"pci-addr", kPciAddress, true, {"addr"}}});
  const auto ivshmem = record({{"id", kText, true}, {"size", kText, true}, {"path", kText}});

  const auto task = record(with_task({}));
  const auto start = record(
      with_task({{"vm-name", kText}, {"vcpus", kU32}, {"memory", kU64}, {"memnode-map", u32_map},
                 {"xml", kText}, {"ivshmem", ivshmem}, {"transient", kBool},
                 {"pci-ids", std::make_shared<List>(pci_id)},
                 {"devs", std::make_shared<List>(pci_address), false, {"dev"}},
                 {"vcpu-map", u32_map}, {"probe-with-ssh", kBool}, {"probe-hostname", kText}}),
      {"vm-name", "xml"}, {"saved-state", "disks"});
  const auto stop = record(with_task({{"vm-name", kText}, {"regex", kText}, {"force", kBool}, {"undefine", kBool}}),
                           {"vm-name", "regex"}, {"remove-storage"});
  const auto named = record(with_task({{"vm-name", kText, true}}));
  const auto repin = record(with_task({{"vm-name", kText, true}, {"vcpu-map", u32_map, true}}));
  const auto migrate = record(with_task({{"vm-name", kText, true}, {"destination", kText, true},
                                         {"parameter", migrate_parameter}}));
  const auto evacuate = record(with_task({{"destinations", texts, true}, {"parameter", evacuate_parameter},
                                          {"vm-name", kText}}));
  const Record::Fields result_fields = {{"vm-name", kText, true},
                              {"status", std::make_shared<Word>(std::set<std::string>{"success", "error"}), true},
                              {"details", kText},
                              {"time-measurement", std::make_shared<Map>(std::make_shared<Timing>())},
                              {"process-id", kU64}};
  const auto result = record(result_fields);
  const auto migrated = record(result_fields, {}, {"encrypted"});
  const auto kpis = record({{"categories", std::make_shared<Map>(kText), true}, {"repeat", kU32, true}});
  const auto job = record({{"job-id", kText, true}, {"process-id", kU32, true}});
  const auto cores = std::make_shared<List>(kU64);
  // A title that schedulers in use send; it is read, and not written.
  const auto titled = [title](const std::string& text, Record::Fields own) {
    return std::make_shared<Untitled>(record({{"task", title(text)}}), record(std::move(own)));
  };

  const auto tasks = std::make_shared<Container>(
      "task",
      std::map<std::string, Variant>{{"start vm", {start, "vm-configurations"}},
                                     {"stop vm", {stop, "list"}},
                                     {"suspend vm", {named, "list"}},
                                     {"resume vm", {named, "list"}},
                                     {"repin vm", {repin, ""}},
                                     {"migrate vm", {migrate, ""}},
                                     {"evacuate node", {evacuate, ""}},
                                     {"quit", {task, "", true}}},
      Record::Fields{{"id", kText}, {"concurrent-execution", kBool}},
      std::set<std::string>{"host", "expires", "idempotency-key"},
      std::set<std::string>{"query node", "query history", "cancel task"});
  const auto results = std::make_shared<Container>(
      "result",
      std::map<std::string, Variant>{{"vm migrated", {migrated, ""}},
                                     {"node evacuated", {migrated, "list"}},
                                     {"vm repinned", {result, "list", true}},
                                     {"", {result, "list"}}},
      Record::Fields{{"id", kText}},
      std::set<std::string>{"scheduler", "executed", "idempotency-key", "request-digest"},
      std::set<std::string>{"node queried", "history queried"});

  return {
      {"TaskContainer", tasks}, {"ResultContainer", results}, {"Task", task}, {"Quit", task},
      {"Start", start}, {"Stop", stop}, {"Suspend", named}, {"Resume", named}, {"Repin", repin},
      {"Migrate", migrate}, {"Evacuate", evacuate}, {"MigrateParameter", migrate_parameter},
      {"EvacuateParameter", evacuate_parameter}, {"SwapWith", swap_with},
      {"DeviceIvshmem", ivshmem}, {"PciId", pci_id}, {"PciAddress", pci_address},
      {"Result", result}, {"agent.Kpis", kpis}, {"agent.JobDescription", job},
      {"agent.Init", record({{"task", title("init")}, {"hostname", kText, true, {"source"}}})},
      {"agent.InitAgent", record({{"task", title("init agent")}, {"KPI", kpis, true}})},
      {"agent.StopMonitoring", record({{"task", title("stop monitoring")}, {"job-description", job, true}})},
      {"mmbwmon.Request", titled("mmbwmon request", {{"cores", cores, true}})},
      {"mmbwmon.Reply", titled("mmbwmon response",
                               {{"cores", cores, true}, {"result", kDouble, true, {"response"}}})},
      {"mmbwmon.Stop", titled("mmbwmon stop", {{"cgroup", kText, true}})},
      {"mmbwmon.Restart", titled("mmbwmon restart", {{"cgroup", kText, true}})},
      {"mmbwmon.SystemInfo", record({{"threads", kU64, true}, {"smt", kU64, true}, {"numa", kU64, true},
                                     {"bandwidth", std::make_shared<List>(kDouble), true}})},
  };
}

std::string answer(const std::string& line, const std::map<std::string, ShapePtr>& known) {
  try {
    const Request request(line);
    const auto type = known.find(request.get("type"));
    if (type == known.end()) throw Unsupported(request.get("type"));
    const YAML::Node root = YAML::Load(request.get("yaml"));
    YAML::Emitter out;
    type->second->copy(root, out, "");
    if (!out.good()) refuse("", out.GetLastError());
    return "{\"ok\": true, \"emit\": " + quoted("---\n" + std::string(out.c_str()) + "\n---") + "}";
  } catch (const Unsupported& option) {
    return "{\"unsupported\": " + quoted(option.what()) + "}";
  } catch (const std::exception& error) {
    return "{\"ok\": false, \"error\": " + quoted(error.what()) + "}";
  }
}

}  // namespace

int main() {
  std::ios::sync_with_stdio(false);
  const auto known = types();
  std::string line;
  while (std::getline(std::cin, line)) std::cout << answer(line, known) << std::endl;
}
