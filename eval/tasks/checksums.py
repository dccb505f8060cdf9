"""Where to download SentEval's data files, and how to verify them: rows of data, nothing is fetched here.

The bytes are those that SentEval's own script (``get_transfer_data.bash``) makes; many of the hosts it reads from are
gone. The copies named here are in public repositories, each at one commit, so that they cannot change.
"""

from dataclasses import dataclass

from eval.tasks.table import GROUPS, TASKS, named
from sentemb.errors import InputError


@dataclass(frozen=True)
class DataFile:
    """One file, and how to know that it is the right one."""

    path: str  # below the data folder, with /
    sha256: str
    lines: int  # newline characters, and one more if the last line has none
    size: int  # bytes
    urls: tuple[str, ...]  # where it is, tried in this order


# _FIRST and _SECOND hold SentEval's layout, except the files below; the others, one task each under other names.
_RAW = "https://raw.githubusercontent.com"
_FIRST = f"{_RAW}/NilpotantBooker/NLP_Project/2189fd664aabb91cf58b36bc341a4f485c120cef/SentEval/data"
_SECOND = f"{_RAW}/leotmc/simcse/e0b62fcef5dadeeef55aef3b640ab219860c201b/SentEval/data"
_SST2 = f"{_RAW}/PrincetonML/SIF/84b5b4c1c1ca20b6af19fc78cae005a1818ec571/data"
_SST5 = f"{_RAW}/harvardnlp/sent-conv-torch/d61ded09c99c0199d8c5bca946cd65864de2b296/data"

# Not the right bytes there.
_NOT_FIRST = ("downstream/SST/binary/sentiment-test", "downstream/SICK/SICK_test_annotated.txt")
_NOT_SECOND = (
    "downstream/MR/rt-polarity.neg",
    "downstream/MR/rt-polarity.pos",
    "downstream/SUBJ/subj.subjective",
)


def _urls(path: str) -> tuple[str, ...]:
    folder, _, name = path.rpartition("/")
    urls = [f"{_SST2}/{name}"] if folder.endswith("SST/binary") else []
    urls += [f"{_FIRST}/{path}"] if path not in _NOT_FIRST else []
    urls += [f"{_SST5}/{name.replace('sentiment-', 'stsa.fine.')}"] if folder.endswith("SST/fine") else []
    urls += [f"{_SECOND}/{path}"] if path not in _NOT_SECOND else []
    return tuple(urls)


def _rows(table: str) -> tuple[DataFile, ...]:
    """A folder on a line of its own, then its files: sha256, lines, bytes, name."""
    files, folder = [], ""
    for line in table.split("\n"):
        match line.split():
            case [folder]:
                pass
            case [sha256, lines, size, name]:
                path = f"{folder}/{name}"
                files.append(DataFile(path, sha256, int(lines), int(size), _urls(path)))
    return tuple(files)


FILES = _rows("""
downstream/MR
c4ac36eaa8adc8ee31c31f69594bfbe68d83ef5b6db53f1f19b28c0be52f3999   5331   616109 rt-polarity.neg
34e5b0da2d491e46b700b00afe735aaae0962bcfe4f7f22b2d8077e714fa370f   5331   629795 rt-polarity.pos
downstream/CR
ec94532766f6f962094841ab3bee2ad6f232f996c3756825a91e78bcc294750f   1368   142650 custrev.neg
91a20a4ffeb5d38a39a4087bb247e16538aff21e7d621ae59738379f39f21732   2407   228014 custrev.pos
downstream/SUBJ
d8ccd43f1674f1c17e4ab717564e3561cfb719b0db4cfb19e5677427c68ff8a1   5000   672430 subj.objective
274c2ffe59c204dc4df779848561786f59a98cc20dda3cfdd7d9f76a4f730710   5000   634654 subj.subjective
downstream/MPQA
8da6e035fa4cea02f0555091096b29a6b3995ff0adf41fad25008dcee066b79e   7294   158902 mpqa.neg
7487dbb74c77383e60b292845495163a9e21fb70a4fdacdda933413e43163f0d   3312    60581 mpqa.pos
downstream/SST/binary
9a6c7403b71a9b762158387afe4431253ae10cdfb2319b5275289f3766f48291    872    94916 sentiment-dev
4fefd1cd67526cf87ebc7fafc3afc21cc7cfa6ae53b45e74f77f9456e3c62752   1821   194788 sentiment-test
10a92a297ec38e262386e5a2713b4bc70e5d18ced88b7f54bd171a26e5b34ab5  67349  3806066 sentiment-train
downstream/SST/fine
b2f76c62b960f9fda5c6d751edb125abab4f878eb94a8754239b7f4af647f4c3   1101   117239 sentiment-dev
0e2ebb450c231f7b3d67fc932066e7bb26ae7bad8c88488f45ed44ef02eb3c73   2210   233634 sentiment-test
9b52b5f686ed438d4d0274c385369251b3d579b578fddd340ba8a9bae2ca4bee   8544   902818 sentiment-train
downstream/TREC
86ad53c8fc9d397ab2f4be7c967d8efb470b260140557d3e57afad69d1b88b76    500    23269 TREC_10.label
8bd6e79493f43bbd22c364587366a1dced54e1e31259eaa92721a0f526031116   5452   333379 train_5500.label
downstream/MRPC
a04e271090879aaba6423d65b94950c089298587d9c084bf9cd7439bd785f784   1726   441275 msr_paraphrase_test.txt
60a9b09084528f0673eedee2b69cb941920f0b8cd0eeccefc464a98768457f89   4077  1047044 msr_paraphrase_train.txt
downstream/SICK
d0362afe8304c8d08166b82d76da2a8c665d5b635ac1f3f1ee82054511749f97   4928   560514 SICK_test_annotated.txt
e02bd30f17ab87358f80ef079a6ef797acd244c3c7515de454301c7c257e410c   4501   506719 SICK_train.txt
0d0786bd8671a0a70614f2f890b8ab24b3c24d1ccb624bcca87618091fbe4f11    501    57293 SICK_trial.txt
downstream/STS/STS12-en-test
d47be1641ac98ac312de6f0746b65683df392f70d843eaac9fb10ebd4cb4cb63    121     3002 00-readme.txt
5526be59228bc34ccb3cb6f1f56c0d7278d3419b8886713ae016fd92b151f19c    750     4500 STS.gs.MSRpar.txt
9c6096c6bcfb0144c8bbddb00900ca9198c88498630cd0c8f08d18365f1d7150    750     4500 STS.gs.MSRvid.txt
708530c4d006d06881f3289fce35d624d7efe562dcf0fe5f8aa0eec3a135f6d4    459     2754 STS.gs.SMTeuroparl.txt
088d8ca22c0aa406e4a5d2e6e308a4f38b482b8e736c2445a38ffb6e4c4fb4fd    750     4500 STS.gs.surprise.OnWN.txt
aa6dfc868db333c43dc59be14d46fa6587c7ebddc0d497e717f647bf35121cf1    399     2394 STS.gs.surprise.SMTnews.txt
21c0c6cc32f68f69d672dfae0f86935cdc2627bae4941381692941aa9320f8c4    750   168149 STS.input.MSRpar.txt
c4a92a3645744f77d1cda9f2af7da5d11e807ae296f6a20fe5930403fb9c4dfe    750    50402 STS.input.MSRvid.txt
05acf33c0fcb592347f49e279137a17e0244d7b0d37cc113134320a5d3f586e1    459    61015 STS.input.SMTeuroparl.txt
e605c67de4b7cee2c5629239d209e2845920f475ebd0468bdcf03d8da2ffa9cf    750    68924 STS.input.surprise.OnWN.txt
cc4a0b9a1355c5680a8a37c02f2d08e35f95754b9f89a2a4a05088ee5ff57ffe    399    59937 STS.input.surprise.SMTnews.txt
downstream/STS/STS13-en-test
531ee28a3787b11dd14dda8d809e724479d87f9705120494aad584c9cb14a6ce    281     8428 00-readme.txt
8ca95b7228119578e2007839cf7969f22c4f1fd41fd610c4b7f9683072d98066    189      685 STS.gs.FNWN.txt
0cd497aaddb00a2fb6db25f77bccfc09e8aa012e11549b81b434bab1a27ad954    561     2001 STS.gs.OnWN.txt
f49f64089011436dd296ef384c07160219406feef7dc4b9fa2af52a519f32bc6    750     2716 STS.gs.headlines.txt
a20cb41a33a528f3c089c94ef24da8eb5e26ed594937cf6fa90f3d1c79d6c53c    189    46833 STS.input.FNWN.txt
cb74993eef23cfa2c03da7e5a08c62e50c9baafae0fa9ba0bb5a09d8e7d2be65    561    48351 STS.input.OnWN.txt
637f3b4afdc8d1cc789e91a4d7217efff30e503c34a872d93e8b27e7b1136cb7    750    69813 STS.input.headlines.txt
downstream/STS/STS14-en-test
9fe9d64362ac42ed24010d5b00f227235a660dc2466fba743f31051fd121ef73    232     6782 00-readme.txt
1c80147df270ea4cfce14a47ed29f8a2f10d5dc016d02836077fd786ff7f535b    750     2765 STS.gs.OnWN.txt
ba6dc76696b5c93985590a325b4d142449932cdf0d715b2bab1b1743fe3c488c    450     1780 STS.gs.deft-forum.txt
105c5b333abd50c274efb4dae9e3e0dab36ed63eee780cfb49955b1586bd62f2    300     1058 STS.gs.deft-news.txt
f243c34647255cd0b994565ed4f58dd31506e7d9c9d6250d1a6dd14095625832    750     2610 STS.gs.headlines.txt
fc994ebacc7074c332626fa9e29542d7340a48a3cdb999b47cdb59c378523a62    750     2550 STS.gs.images.txt
0098c644bfeaa2d511a8297b1940771865900c372c9dd49a62726dc5ec02c9a3    750     2640 STS.gs.tweet-news.txt
8cd2333328d17e3212afa2d43dd934c5521e3fd35fc786b992dc7864f9d34f8f    750    69761 STS.input.OnWN.txt
b39579e59c7b9f4063545c3d4643f8db16dc060cd0a35447ef56ff0aabec9d83    450    43750 STS.input.deft-forum.txt
cc450dcd9228211c1a311de1ff28199f166dce6f7fc81dcb5ce968a3a8a80d2d    300    63248 STS.input.deft-news.txt
2ed0ea55d196cdbb440ed428eb1846dcb43486a692aafb22b3bc5c14c44407c8    750    72107 STS.input.headlines.txt
295fc99f8a9215c330b36a08bc1ff3e428f10057be5bb915262111494b3616e2    750    71048 STS.input.images.txt
b25b3768762aa7cdcd89f2a25ce5049de7e4cd51b138227c3a31092ae8e2b5f5    750    94941 STS.input.tweet-news.txt
downstream/STS/STS15-en-test
38fe35ef21a0f224b6cc51e00d138810063521cd90458a7d77e4e0aa3a79542d     58      877 00-readme.txt
1644301a7540e5484da285002e9269062852efb2272be614cad99c9530f6a102   2000     3500 STS.gs.answers-forums.txt
028db213140f8c7aef7497c4ae38b6380938f20359852231669c83dce11c3701   1500     4500 STS.gs.answers-students.txt
5736192faaccbdbecd0ef6b73ec04b24115cd2e48d55dc3b1b170da3d2a81c75   2000     3500 STS.gs.belief.txt
e8e432f769c8a94ddb62ae3343890ac24a9dd78a116d56c707313bc59413dd56   1500     4500 STS.gs.headlines.txt
ed8878209098c77ca7f02ac413d3fd698f92ad3425999555e50fda89fc46012a   1500     4500 STS.gs.images.txt
65718ec23624d97933308adc08cb270db798cdd5593d35501be9bfda5ba1a28a     30     2494 STS.input.answers-forums.LICENSE
b8f1bc125559adbb3ac5b33206472b217c12621c3a6b5a8575da47dc0b536fc4   2000   357930 STS.input.answers-forums.txt
4893f736e84cea176c39c882250f6513d5bbcfa6ebe8d3ffabcef6056d0471a7   1500   162805 STS.input.answers-students.txt
a54ec7af1924c900d8474586abae465819d2c03c73561aa2e76e7fa5e836faff   2000   289003 STS.input.belief.txt
85d90b0f8f258a47758808d382188ba2ee7b1adbbf84feb776afad0e4691d5d1   1500   146911 STS.input.headlines.txt
0dac9494186838a8f4dfbb4ee290fec8d7581cf84a33d615c522700b3b50e0d6   1500   146961 STS.input.images.txt
downstream/STS/STS16-en-test
94b7380d16f832ae97bcb48536f22fe9a22e8e20f8cf88a9298f65c556e3a6f2     83     3543 LICENSE.txt
1b74b4c84a59f139153f0348e212bfdb33dffd3b008dfb2c4f7728c4fa27141f     89     2998 README.txt
332efd741b0cb247d20dd2a6cec854360c921c7e6b395f328f562d8d26057214   1572     1826 STS.gs.answer-answer.txt
01e33a95996201a6e81e3cce9eda0f15048b77613ea64dce2929bb35479f7d85   1498     1747 STS.gs.headlines.txt
29984944a91aaff484f2b2e5d4d434fc8a6f5ef6f578a880cccd2786f5142fdc   1271     1501 STS.gs.plagiarism.txt
81947ed9dbe7f85b7bd249df68ed5c7b2f16f06390ad568eb5554b1e26bc5577   3287     3531 STS.gs.postediting.txt
cf9ebf9d140191f73620cda0560947ad9283c910735d0d541b8a401a5e64afb0   1555     1764 STS.gs.question-question.txt
ebbffced7d4630755e61d4dfe4d82121198965a14b9f5734b5abedb961f0725c   1572   151640 STS.input.answer-answer.txt
705c3e82fb85fa3b6706a481b790e1030304ddc9c72d39e126693ed44b258ba6   1498   149506 STS.input.headlines.txt
dd4ca54d1dfcd7d1cabe67f0de98cde23f4c1696ecc0003afbecae1274305d63   1271   206994 STS.input.plagiarism.txt
9b455d8da1d1bae692d038da1d431827d23bfec04c64b109efc3b6b620fd422f   3287   808635 STS.input.postediting.txt
58920c7da7dbc1b860609310782d88b7457d599c90a226819b5880262dd7f58a   1555   167903 STS.input.question-question.txt
downstream/STS/STSBenchmark
3dfc3217395f8c5dd05c5f8995f25fe2f8fd258e6dd770b3de480749caee8c70    136     6641 LICENSE.txt
e9488363d211c32ca5e912954f16eb9233cfed1b5b4b0475d0d812d35d7c8ef1    174     5994 readme.txt
c558fa95fec006608f13e3d942f153b614beabccbf33e64f36418d406a895e37   1500   258473 sts-dev.csv
22ef3e10603b6655d7c7978c8eee26e7d5291dd5a71c5531b934fb025c108cbf   1379   206733 sts-test.csv
4fc4924edd059a43e9c7c8927a72cb8061a87ef98afdf2026a0e0b540b458693   5749   896257 sts-train.csv
""")


def files_of(names: str) -> list[DataFile]:
    """The files that the tasks and groups in ``"MR,CR"`` need, and their licences, each once.

    Raises:
        InputError: a name is neither, belongs to the built-in sample (which needs no file), or there is none.
    """
    wanted = named(name.strip() for name in names.split(",") if name.strip())
    sample = [name for name in wanted if TASKS[name].sample]
    if sample or not wanted:
        what = f"{', '.join(sample)} needs no file" if sample else "--tasks names no task"
        raise InputError(f"{what}; valid: {', '.join((*GROUPS, *GROUPS['all']))}")
    folders = dict.fromkeys(file.path.rpartition("/")[0] for name in wanted for file in TASKS[name].files)
    return [file for folder in folders for file in FILES if file.path.rpartition("/")[0] == folder]
