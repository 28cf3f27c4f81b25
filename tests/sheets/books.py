"""The fields of a made-up site, of every kind, for the tests of templates and annotations."""

from datameta.logic.fields import Condition, Field, Kind, Operator, Rule, Rulebook, Term, Vocabulary

MISSING = ("missing", "not applicable")
PLATFORMS = Vocabulary(
    (Term("Illumina", ("Solexa",)), Term("Oxford Nanopore", ("ONT",)), Term("PacBio"), Term("Ion Torrent"))
)

FIELDS = (
    Field(1, "Sample ID", "Letters, digits and hyphens.", "The name of the sample in your laboratory.", "LAB-007",
          reg_exp="^[A-Za-z0-9-]+$", is_mandatory=True, is_submission_unique=True),
    Field(2, "Barcode", "Three digits.", "The number on the tube.", "007", reg_exp="^[0-9]{3}$",
          is_mandatory=True, is_site_unique=True),
    Field(3, "Collected", "", "The day on which the sample was taken.", "2024-03-01", date_time_fmt="%Y-%m-%d",
          is_mandatory=True, missing_terms=MISSING),
    Field(4, "Host sex", "", "The sex of the host.", "female", reg_exp="^(female|male|unknown)$"),
    Field(5, "Platform", "", "The maker of the sequencer.", "Illumina", is_mandatory=True, kind=Kind.VOCABULARY,
          vocabulary=PLATFORMS, missing_terms=MISSING),
    Field(6, "Host age", "", "The age of the host.", "34", kind=Kind.NUMBER, unit="years", minimum="0",
          maximum="120", is_integer=True, missing_terms=MISSING),
    Field(7, "Concentration", "", "As measured by fluorometry.", "12.5", kind=Kind.NUMBER, unit="ng/µl",
          minimum="0", maximum="1000"),
    Field(8, "Read date", "", "When the run ended.", "01.04.2024 14:30", date_time_fmt="%d.%m.%Y %H:%M"),
    Field(9, "Gene", "", "The gene of interest.", "SEPT2"),
    Field(10, "FASTQ R1", "The name of a file.", "The file with the first reads.", "LAB-007_R1.fastq.gz",
          is_mandatory=True, is_file=True),
    Field(11, "QC result", service_id=1, example="pass"),
)  # fmt: skip

RULES = (
    Rule("The age is needed where the sex is known.", (Condition(6, Operator.IS_FILLED),),
         (Condition(4, Operator.IS, ("female", "male")),)),
    Rule("A sample is read after it was taken.", (Condition(8, Operator.AT_LEAST, (), 3),)),
)  # fmt: skip

BOOK = Rulebook(FIELDS, RULES)
