package main

import (
	"bytes"
	"image/color"
	"slices"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

// A chart has a line for each row of a table and a dot on it for each side, on a logarithmic axis: sides differ by factors.
type chart struct {
	name, title, axis string
	labels            []string // of the rows, from the top
	series            []series
}

type series struct {
	name   string
	points []point
}

type point struct {
	row   int
	value float64
}

// colours can be told apart by those who do not see all colours (Okabe and Ito), and shapes by those who see none.
var colours = []color.Color{
	color.RGBA{R: 0xd5, G: 0x5e, A: 0xff}, color.RGBA{G: 0x72, B: 0xb2, A: 0xff},
	color.RGBA{G: 0x9e, B: 0x73, A: 0xff}, color.RGBA{R: 0x56, G: 0x56, B: 0x56, A: 0xff},
}

var shapes = []draw.GlyphDrawer{draw.SquareGlyph{}, draw.CircleGlyph{}, draw.PyramidGlyph{}, draw.PlusGlyph{}}

// The size of a picture: as wide as the text of a README, and as high as it has rows.
const (
	width     = 9 * vg.Inch
	frame     = 1.3 * vg.Inch // title, axis, legend
	rowHeight = 0.32 * vg.Inch
)

// svg draws the chart.
func (c chart) svg() ([]byte, error) {
	p := plot.New()
	p.Title.Text = c.title
	p.X.Label.Text = c.axis
	p.X.Scale = plot.LogScale{}
	p.X.Tick.Marker = plot.LogTicks{Prec: -1}
	labels := slices.Clone(c.labels)
	slices.Reverse(labels) // the axis goes up
	p.NominalY(labels...)
	p.Y.Min, p.Y.Max = -0.7, float64(len(labels))-0.3
	grid := plotter.NewGrid()
	grid.Vertical.Color = color.Gray{Y: 0xdd}
	grid.Horizontal.Color = color.Gray{Y: 0xdd}
	p.Add(grid)
	for _, s := range c.series {
		var at plotter.XYs
		for _, point := range s.points {
			at = append(at, plotter.XY{X: point.value, Y: float64(len(labels) - 1 - point.row)})
		}
		dots, err := plotter.NewScatter(at)
		if err != nil {
			return nil, err
		}
		look := slices.Index(sides, s.name)
		dots.GlyphStyle = draw.GlyphStyle{Color: colours[look], Shape: shapes[look], Radius: vg.Points(4)}
		p.Add(dots)
		p.Legend.Add(s.name, dots)
	}
	p.Legend.Top = true
	p.X.Min, p.X.Max = p.X.Min/1.5, p.X.Max*4 // room for the legend at the right
	canvas := vgsvg.New(width, frame+vg.Length(len(labels))*rowHeight)
	p.Draw(draw.New(canvas))
	var text bytes.Buffer
	_, err := canvas.WriteTo(&text)
	return text.Bytes(), err
}
