package acceptance

import (
	"fmt"
	"math"
	"strings"
	"time"
)

// Size of a plot, in units of its viewBox.
const (
	plotWidth, plotHeight = 760.0, 190.0
	plotLeft, plotRight   = 52.0, 24.0
	plotTop, plotBottom   = 8.0, 24.0
)

// plot is a diagram as the template draws it.
type plot struct {
	Title, XLabel  string
	Shades         []shade
	Curves         []curve
	XTicks, YTicks []tick
}

type shade struct {
	Class string
	X, W  float64
}

type curve struct{ Class, Name, Path string }

type tick struct {
	At    float64
	Label string
}

// Edges of the drawing, for the template.
func (plot) Left() float64   { return plotLeft }
func (plot) Right() float64  { return plotWidth - plotRight }
func (plot) Top() float64    { return plotTop }
func (plot) Bottom() float64 { return plotHeight - plotBottom }
func (plot) Width() float64  { return plotWidth }
func (plot) Height() float64 { return plotHeight }
func (p plot) Tall() float64 { return p.Bottom() - p.Top() }

// axis maps values to a range of the drawing.
type axis struct{ low, high, from, to float64 }

func (a axis) at(v float64) float64 {
	return math.Round((a.from+(v-a.low)/(a.high-a.low)*(a.to-a.from))*10) / 10
}

func xAxis(low, high float64) axis { return axis{low, high, plotLeft, plotWidth - plotRight} }
func yAxis(high float64) axis      { return axis{0, high, plotHeight - plotBottom, plotTop} }

// steps are round numbers from 0 to at least high, about n of them.
func steps(high float64, n int) []float64 {
	width := math.Pow10(int(math.Floor(math.Log10(max(high, 1) / float64(n)))))
	for _, by := range []float64{1, 2, 5, 10} {
		if high/(width*by) <= float64(n) {
			width *= by
			break
		}
	}
	width = max(width, 1)
	list := []float64{0}
	for list[len(list)-1] < high {
		list = append(list, list[len(list)-1]+width)
	}
	return list
}

// overTime prepares a plot over the time of the run.
func (r *Report) overTime(title string, highest float64) (plot, axis, axis) {
	length := r.End.Sub(r.Start).Seconds() + r.DrainS
	p := plot{Title: title, XLabel: "seconds since the start"}
	x, heights := xAxis(0, max(length, 1)), steps(max(highest, 1), 4)
	y := yAxis(heights[len(heights)-1])
	for _, v := range heights {
		p.YTicks = append(p.YTicks, tick{y.at(v), fmt.Sprint(v)})
	}
	for _, v := range steps(length, 10) {
		if v <= length {
			p.XTicks = append(p.XTicks, tick{x.at(v), fmt.Sprint(v)})
		}
	}
	for _, f := range r.Faults {
		to := f.ToS
		if f.Kind == Kill {
			to = f.RecoveredS // it sees nothing while it starts
		}
		if to == 0 {
			to = length
		}
		p.Shades = append(p.Shades, shade{f.Kind, x.at(f.FromS), max(x.at(to)-x.at(f.FromS), 1.5)})
	}
	return p, x, y
}

// queuePlot is the depth of the queue. The line is broken where nobody could
// tell it.
func (r *Report) queuePlot() plot {
	highest := 0.0
	for _, s := range r.Samples {
		highest = max(highest, float64(s.Queued))
	}
	p, x, y := r.overTime("Records in the queue", highest)
	var path strings.Builder
	pen := "M"
	for _, s := range r.Samples {
		if !s.Alive {
			pen = "M"
			continue
		}
		fmt.Fprintf(&path, "%s%v %v", pen, x.at(s.AtS), y.at(float64(s.Queued)))
		pen = "L"
	}
	p.Curves = []curve{{"one", "records", path.String()}}
	return p
}

// flowPlot is how many events were captured and arrived.
func (r *Report) flowPlot() plot {
	highest := 0.0
	for i := range r.Flow.Captured {
		highest = max(highest, float64(r.Flow.Captured[i])/r.Flow.WidthS, float64(r.Flow.Arrived[i])/r.Flow.WidthS)
	}
	p, x, y := r.overTime("Events a second", highest)
	draw := func(bins []int) string {
		var path strings.Builder
		for i, n := range bins {
			at := y.at(float64(n) / r.Flow.WidthS)
			pen := "L"
			if i == 0 {
				pen = "M"
			}
			end := min(float64(i+1)*r.Flow.WidthS, x.high)
			fmt.Fprintf(&path, "%s%v %vH%v", pen, x.at(float64(i)*r.Flow.WidthS), at, x.at(end))
		}
		return path.String()
	}
	p.Curves = []curve{{"two", "arrived at the centre", draw(r.Flow.Arrived)}, {"one", "captured, of those", draw(r.Flow.Captured)}}
	return p
}

// binsPerDecade of the distribution of latencies.
const binsPerDecade = 8

// latencyPlot is the distribution of latencies.
func (r *Report) latencyPlot() plot {
	var inferred, arrived []time.Duration
	longest := time.Second
	for _, a := range r.arrivals {
		inferred, arrived = append(inferred, a.inferred), append(arrived, a.arrived)
		longest = max(longest, a.arrived)
	}
	decades := int(math.Ceil(math.Log10(longest.Seconds() * 1000)))
	first, second := distribution(inferred, decades), distribution(arrived, decades)
	highest := 0.01
	for i := range first {
		highest = max(highest, first[i], second[i])
	}
	p := plot{Title: "Latency, in % of events", XLabel: "after the arrival of the frame, logarithmic"}
	x, heights := xAxis(0, float64(decades)), steps(100*highest, 4)
	y := yAxis(heights[len(heights)-1])
	for _, v := range heights {
		p.YTicks = append(p.YTicks, tick{y.at(v), fmt.Sprint(v)})
	}
	for d := range decades + 1 {
		label := fmt.Sprintf("%v ms", math.Pow10(d))
		if d >= 3 {
			label = fmt.Sprintf("%v s", math.Pow10(d-3))
		}
		p.XTicks = append(p.XTicks, tick{x.at(float64(d)), label})
	}
	draw := func(bins []float64) string {
		var path strings.Builder
		fmt.Fprintf(&path, "M%v %v", x.at(0), y.at(0))
		for i, v := range bins {
			fmt.Fprintf(&path, "V%vH%v", y.at(100*v), x.at(float64(i+1)/binsPerDecade))
		}
		return path.String()
	}
	p.Curves = []curve{{"two", "arrived at the centre", draw(second)}, {"one", "inferred", draw(first)}}
	return p
}

// distribution is the share of durations in each bin, from 1 ms on.
func distribution(all []time.Duration, decades int) []float64 {
	bins := make([]float64, decades*binsPerDecade)
	for _, d := range all {
		i := int(math.Log10(max(d.Seconds()*1000, 1)) * binsPerDecade)
		bins[min(i, len(bins)-1)] += 1 / float64(len(all))
	}
	return bins
}
