// The files of this folder that make up a page, as CMakeLists.txt puts them into the program.
#pragma once

namespace gru4rec {

extern const char* const kPageHtml;    // page.html, with @TITLE@, @STYLE@, @DATA@ and @SCRIPT@ to be filled in
extern const char* const kPageCss;     // page.css
extern const char* const kPageScript;  // charts.js, run.js, tune.js

}  // namespace gru4rec
